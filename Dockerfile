# UNBUILT: nobody has built or run this image yet. CUDA comes inside torch's wheels; the host gives the driver.
# Without nvcc there is no flash-attn and attention is torch's own; from nvidia/cuda's devel image of CUDA 13 there is.
#
#   docker build -t gre-suite .
#   docker run --gpus all --ipc=host -v "$PWD:/work" -w /work gre-suite bash /opt/gre/scripts/train/stage1.sh
FROM python:3.11-bookworm
# A compiler stays: DeepSpeed builds its CPU optimizer on first use, triton its kernels.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/gre
COPY . .
RUN bash environment.sh cuda
