"""How other languages say latitude, longitude, north and degree: tables, and a text with it said in Latin signs.

    北緯33度52分、東経151度12分     ->  N33°52'、 E151°12'
    48,8566° с. ш., 2,3522° в. д.  ->  48,8566° N, 2,3522° E

Words between spaces and marks are in WORDS, under the signs of gre.text.signs; it looks them up itself, in any case.
What is written without spaces, of several words or with vowel signs, which Python takes for no letters, is in LABELS,
LETTERS and COMPASS; `_` stands for white space or none.
"""
import re
from collections.abc import Iterable, Mapping
from unicodedata import normalize

WORDS = {
    "A": "latitud latitude latitudine breite breitengrad breitengrade enlem enlemi szerokość szerokości breedtegraad "
         "breedte широта широты широте широту breddgrad breddgraden breddegrad breddegraden szélesség szélességi "
         "leveysaste leveysasteet leveyspiiri šířka šířky šírka πλάτος lintang",
    "O": "longitud longitude longitudine länge längengrad längengrade boylam boylamı długość długości lengtegraad "
         "lengte долгота долготы долготе долготу довгота довготи längdgrad längdgraden længdegrad længdegraden "
         "lengdegrad lengdegraden hosszúság hosszúsági pituusaste pituusasteet pituuspiiri délka délky dĺžka "
         "μήκος bujur",
    "n": "nord norte nördlich nördliche nördlicher nördl kuzey północ północna północnej północny noord noorderbreedte "
         "noordelijke север северная северной северный bắc nordlig norr pohjoista pohjoinen északi severní βόρειο "
         "βόρεια utara північна північної",
    "s": "sud süd sur sul südlich südliche südlicher südl güney południe południowa południowej południowy zuid "
         "zuiderbreedte zuidelijke юг южная южной южный nam sydlig söder eteläistä eteläinen déli jižní νότιο νότια "
         "selatan південна південної",
    "e": "est este ost leste östlich östliche östlicher östl doğu wschód wschodnia wschodniej wschodni oost "
         "oosterlengte oostelijke восток восточная восточной восточный đông östlig öst østlig itäistä itäinen "
         "keleti východní ανατολικό ανατολικά timur східна східної",
    "w": "ouest oeste ovest westlich westliche westlicher westl batı zachód zachodnia zachodniej zachodni westerlengte "
         "westelijke запад западная западной западный tây västlig väst vestlig läntistä läntinen nyugati západní "
         "δυτικό δυτικά barat західна західної",
    "H": "hemisferio hémisphère hemisfério halbkugel hemisphäre emisfero yarımküre półkula półkuli полушарие",
    "&": "und y et и ve và och og és ja και dan та",
    "f": "de del di la ist is es è wynosi là は が 約 은 는 이 가 약 geographische geographischer geographisch "
         "geografische geograficzna geograficznej géographique geográfica geografica coğrafi географическая "
         "географической географічна zeměpisná zemepisná földrajzi maantieteellinen γεωγραφικό "
         "aproximadamente approximativement environ circa etwa ungefähr около yaklaşık około khoảng",
}
UNITS = {  # after a number
    "°": "grad grade grado grados gradi grau graus degré degrés derece stopień stopni stopnie graden graad độ градус "
         "градуса градусов डिग्री अंश درجة درجات",
    "'": "minuten minute minutes minuto minutos minuti dakika minuta minuty minut minuut phút минута минуты минут मिनट "
         "دقيقة دقائق",
    '"': "sekunden sekunde segundo segundos secondi secondo seconde secondes secunde saniye sekunda sekundy sekund "
         "giây секунда секунды секунд सेकंड ثانية ثواني",
}
CHARACTERS = {"°": "度도", "'": "分분", '"': "秒초"}  # the same, with anything after them
LABELS = {
    "latitude": "纬度 緯度 위도 अक्षांश خط_العرض دائرة_العرض خط_عرض دائرة_عرض vĩ_độ vĩ_tuyến عرض_جغرافیایی "
                "קו_רוחב קו_הרוחב ละติจูด เส้นรุ้ง অক্ষাংশ அட்சரேகை garis_lintang",
    "longitude": "经度 經度 経度 경도 देशांतर देशान्तर रेखांश خط_الطول خط_طول kinh_độ kinh_tuyến طول_جغرافیایی "
                 "קו_אורך קו_האורך ลองจิจูด เส้นแวง দ্রাঘিমাংশ தீர்க்கரேகை garis_bujur",
}
LETTERS = {"N": "北纬 北緯 북위", "S": "南纬 南緯 남위", "E": "东经 東經 東経 동경", "W": "西经 西經 西経 서경"}
COMPASS = {
    "north": "उत्तरी उत्तर شمالاً شمالا شمالي شمال vĩ_bắc", "south": "दक्षिणी दक्षिण جنوباً جنوبا جنوبي جنوب vĩ_nam",
    "east": "पूर्वी पूर्व شرقاً شرقا شرقي شرق kinh_đông", "west": "पश्चिमी पश्चिम غرباً غربا غربي غرب kinh_tây",
}
ABBREVIATED = {  # after a number: Russian, German, Dutch
    "N": "с._ш. n._br. nb", "S": "ю._ш. s._br. zb", "E": "в._д. ö._l. ol", "W": "з._д. w._l. wl"}
CYRILLIC = {"С": "N", "Ю": "S", "В": "E", "З": "W"}  # after a number; without В or З, С is Celsius
UNCLEAR = "OKGDBĐ"  # after a degree sign: O is west in French, east in German; B west in Turkish, north in Vietnamese
ZEROS = "٠۰०০๐௦"  # of Arabic, Persian, Devanagari, Bengali, Thai, Tamil

AFTER_ANGLE = r"(?:(?<=°)|(?<=[0-9]['\"])|(?<=''))\s?"
_NO_LETTER = r"(?![^\W\d])"


def latin(text: str) -> str:
    """The text with all of this said in Latin signs; linear in its length."""
    text = _PARTICLE.sub(" ", normalize("NFC", text).translate(_DIGITS))
    text = _SPELLED.sub(lambda match: f" {_IN_LATIN[_key(match[0])]} ", text)
    text = _LETTERED.sub(lambda match: " " + _IN_LATIN[_key(match[0])], text)
    text = _DEGREES.sub("°", text)
    text = _SECONDS.sub(r'\1"', _MINUTES.sub(r"\1'", text))
    text = _ABBREVIATED.sub(lambda match: " " + _IN_LATIN[_key(match[1])], text)
    if _IS_CYRILLIC.search(text):
        text = _AFTER_DEGREE.sub(lambda match: " " + CYRILLIC[match[1]], text)
    return text


def _any(words: Iterable[str]) -> str:
    """A pattern of any of these, the longest that fits."""
    return "|".join(re.escape(word).replace("_", r"\s?") for word in sorted(words, key=len, reverse=True))


def _words(*tables: Mapping[str, str]) -> list[str]:
    return [word for table in tables for words in table.values() for word in words.split()]


def _key(said: str) -> str:
    return re.sub(r"\s", "", said).casefold().removesuffix(".")


_PARTICLE = re.compile(r"(?<=[はが約는은약])(?=[0-9])")  # else one word with the number
_DIGITS = {ord(zero) + digit: str(digit) for zero in ZEROS for digit in range(10)}
_IN_LATIN = {_key(word.replace("_", "")): sign for table in (LABELS, LETTERS, COMPASS, ABBREVIATED)
             for sign, words in table.items() for word in words.split()}
_SPELLED = re.compile(rf"{_any(_words(LABELS))}|(?<![^\W\d])(?:{_any(_words(COMPASS))}){_NO_LETTER}", re.IGNORECASE)
_LETTERED = re.compile(_any(_words(LETTERS)))
_UNIT = {sign: rf"\s?(?:(?:{_any(words.split())}){_NO_LETTER}|[{CHARACTERS[sign]}])" for sign, words in UNITS.items()}
_DEGREES = re.compile("(?<=[0-9])" + _UNIT["°"], re.IGNORECASE)
_MINUTES = re.compile(r"(°\s{0,2}[0-9]{1,3}(?:[.,][0-9]{1,8})?)" + _UNIT["'"], re.IGNORECASE)
_SECONDS = re.compile(r"('\s{0,2}[0-9]{1,3}(?:[.,][0-9]{1,8})?)" + _UNIT['"'], re.IGNORECASE)
_ABBREVIATED = re.compile(rf"(?<=[0-9°'\"])\s?({_any(_words(ABBREVIATED))}){_NO_LETTER}", re.IGNORECASE)
_IS_CYRILLIC = re.compile(r"(?<=[0-9°'\"])\s?[ВЗ](?![^\W\d]|\s[а-яё])")  # not the words "in", "with"
_AFTER_DEGREE = re.compile(rf"(?<=[0-9°'\"])\s?([{''.join(CYRILLIC)}])(?![^\W\d]|\s[а-яё])")
