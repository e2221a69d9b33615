"""Texts for the tokenizer goldens: ours, pieces of Wikipedia, and random strings with a fixed seed.

Only code points that Unicode 14 assigns are drawn at random, because the tables of regular expression libraries differ in
what came later.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator

UNICODE_VERSION = "14.0.0"
SEED = 20

SENTENCES = """
The quick brown fox can't jump over 13 lazy dogs, can it?
She said: "I'd've known!" -- and he'll (maybe) agree; we're done.
Der Fußgänger überquerte im März die Straße, ohne „Grüß Gott“ zu sagen.
L'été dernier, nous avons mangé des crêpes à l'ancienne près du château.
¿Dónde está el niño que compró 1.234,56 € de jamón ibérico?
A manhã está fria, mas o coração não treme; pão quente às 7h30.
Perché la città è così silenziosa? Forse c'è sciopero.
Zażółć gęślą jaźń, a potem wróć do domu o 17:45.
Příliš žluťoučký kůň úpěl ďábelské ódy na břehu řeky.
Árvíztűrő tükörfúrógép zúg a műhelyben reggel óta.
Þórður sá ævintýri við fjörðinn og hló að því.
Bugün hava çok güzel, İstanbul'da ışıklar söndü mü?
Vẫn còn những điều tốt đẹp ở phía trước, phải không bạn?
Съешь же ещё этих мягких французских булок, да выпей чаю.
Їжак ґречно з'їв п'ять яблук і ліг спати.
Ο γρήγορος σκύλος πήδηξε πάνω από τον φράχτη· τι ωραία μέρα!
Բարև ձեզ, այսօր եղանակը շատ լավ է։
დილა მშვიდობისა, დღეს ბაზარში ვაშლი იაფია.
שלום עולם, היום קניתי ספר חדש ב־50 ש"ח.
בְּרֵאשִׁית הָיָה רַעַשׁ גָּדוֹל בַּיָּם
السلام عليكم، كيف حالك اليوم؟ عندي ٣ كتب و١٢ قلماً.
امروز هوا آفتابی است و می‌خواهم به بازار بروم؛ ساعت ۱۴:۳۰.
آج موسم بہت اچھا ہے، ہم باغ میں چلیں گے۔
आज मौसम अच्छा है, हम सब क्षितिज देखने जाएँगे। १२३ रुपये
আজকের আকাশ পরিষ্কার, আমরা নদীর ধারে যাব। ৪৫ টাকা
இன்று மழை பெய்தது, குழந்தைகள் மகிழ்ச்சியாக விளையாடினர்.
ఈ రోజు వాతావరణం చాలా బాగుంది, మేము తోటకు వెళ్తాము.
ಇಂದು ನಾವು ಹೊಸ ಪುಸ್ತಕವನ್ನು ಓದಿದೆವು.
ഇന്ന് നല്ല മഴയാണ്, ഞങ്ങൾ വീട്ടിൽ ഇരിക്കുന്നു.
આજે બજારમાં કેરી સસ્તી છે. ૭૮૯
ਅੱਜ ਮੌਸਮ ਬਹੁਤ ਸੋਹਣਾ ਹੈ।
අද කාලගුණය හොඳයි, අපි මුහුදට යමු.
วันนี้อากาศดีมาก เราจะไปเดินเล่นที่ตลาดน้ำ ราคา ๒๕ บาท
ມື້ນີ້ອາກາດດີຫຼາຍ ພວກເຮົາຈະໄປຕະຫຼາດ
ယနေ့ ရာသီဥတု သာယာသည်၊ ပန်းခြံသို့ သွားမည်။
ថ្ងៃនេះអាកាសធាតុល្អណាស់ យើងនឹងទៅផ្សារ។
བོད་ཀྱི་རི་བོ་མཐོན་པོ་ཡིན།
今天天气很好，我们去公园散步吧！价格是１２３元。
今日は天気がいいので、公園まで歩きましょう。ｶﾀｶﾅと「カタカナ」。
오늘은 날씨가 좋아서 공원에 갔습니다. 가격은 3,000원이에요.
Сәлем, бүгін ауа райы жақсы, біз тауға барамыз.
Өнөөдөр цаг агаар сайхан байна. ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ
ዛሬ አየሩ ጥሩ ነው፤ ወደ ገበያ እንሄዳለን። ፲፪
ᎣᏏᏲ ᎣᎩᎾᎵᎢ, ᏙᎯᏧ?
ᐊᐃ, ᖃᓄᐃᑉᐱᑦ? ᐅᓪᓗᒥ ᓯᓚ ᐱᐅᔪᖅ
Ní thuigim thú, a chara; tá an aimsir go hálainn ar an gCarraig.
E kā mau i ka ʻōlelo Hawaiʻi i kēia lā.
Mwen renmen manje diri ak pwa chak dimanch.
Leo hali ya hewa ni nzuri; tutaenda sokoni saa 3:00 asubuhi.
ǃKung ǀXam ǂHoan ǁGana: click letters, then ŋ̊ǃʼa.
𐌰𐍄𐍄𐌰 𐌿𐌽𐍃𐌰𐍂 in Gothic, 𓀀𓂀𓆣 in hieroglyphs, 𒀭𒂗𒆤 in cuneiform.
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ℕ ⊆ ℤ ⊂ ℚ, ∮E⋅da = Q/ε₀
𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕕𝕠𝕦𝕓𝕝𝕖 𝒮𝒸𝓇𝒾𝓅𝓉 𝟘𝟙𝟚 ﬁne ﬂour ⅷ ⅻ ½ ¾ x² y₃ ①②③ №5
┌──┬──┐ │▒▓│ ╔═╗ ← ↑ → ↓ ⇒ ☐ ☑ ✓ ✗ ♠♣♥♦ ★☆ ♪♫ ⚀⚁⚂
""".strip().split("\n")

EMOJI = (
    "😀 😂 🤣 😅 🥺 🤔 🙄 💀 ❤️ ❤ 💔 ☠️ ✅ ⚡ 🔥 🎉 🚀 👍 👍🏻 👍🏽 👍🏿 👋🏾 🤝🏼 👩‍💻 👨🏿‍🚒 👩🏽‍🔬 🧑‍🤝‍🧑 👩🏻‍🤝‍👨🏿 👨‍👩‍👧‍👦 👩‍❤️‍💋‍👨 "
    "🏳️‍🌈 🏴‍☠️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🇫🇷 🇯🇵 🇺🇳 🇧🇷🇩🇪 1️⃣ #️⃣ *️⃣ 🔟 ©️ ®️ ™️ ‼️ ⁉️ 〰️ ㊗️ 🈁 🅰️ 🆗 🧔‍♀️ 🏋🏽‍♂️ 🕵️‍♀️ 🐻‍❄️ 🐈‍⬛ 🧑🏾‍🎄 🫶🏿 🫠 🥲 "
    "🪗 🏗️ 🧩 🛸 ♟️ ♿ ⏰ ⌨️ 🀄 🃏 🂡 🖖🏼 🤌🏽 👁️‍🗨️ 🧜🏻‍♀️ 🫱🏿‍🫲🏻"
).split()

COMBINING = """
e\u0301 a\u0308 n\u0303 o\u0302\u0301 u\u0308\u0304 s\u0323\u0307 q\u0307\u0323 i\u0307 A\u030a \u1100\u1161\u11a8 \u1112\u1161\u11ab\u1100\u1173\u11af
\u0301 \u0301a x\u0336y\u0336z\u0336 Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324 a\u20dd \u0915\u094d\u0937 \u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937
\u0e01\u0e33 \u0e40\u0e41\u0e35\u0e48 \u05e9\u05c1\u05bc \u0627\u0655 \u0644\u0627\u0651 \u0f40\u0f71\u0f72 \u1e9b\u0323 \ufb01\u0301 \u212b\u0301 \u2126 \u0344 \u0958
a\u200bb a\u200cb a\u200db a\u2060b \ufeffa a\ufeffb \u202ea\u202c \u2066a\u2069 a\u00adb \u034f\u0301 \ufe0f \u200d a\ufe0f
""".split()

CONTRACTIONS = "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'VE 'M 'LL 'D 'Re 'vE 'Ll 'lL '\u017f \u2019s \u2019ll 'x 'st 'dd 'll'll 're's ''s 's's ' '' 'e".split()

SPACES = [
    " ", "  ", "   ", "    ", "\t", "\t\t", " \t", "\t ", "\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", " \n", "\n ", "  \n  ",
    "\n\t", "\t\n", " \r\n ", "\v", "\f", "\x85", "\xa0", "\xa0\xa0", " \xa0", "\xa0 ", "\u1680", "\u180e", "\u2000", "\u2003\u2003",
    "\u2007", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u3000\u3000", " \u3000", "\u200b", "\u2800", "\x1c", "\x1f",
]  # fmt: skip

CODE = r"""
int main(void) { return 0; }
for (size_t i = 0; i < n; ++i) a[i] += b[i] * 0x1F;
#include <stdio.h>
#define MAX(a, b) ((a) > (b) ? (a) : (b))
printf("%-10s|%5.2f\n", name, 3.14159f);
def f(x: int) -> list[str]: return [f"{x!r:>8}"] * 2
lambda *args, **kwargs: (args, kwargs)
if __name__ == "__main__": sys.exit(main())
x = {'a': 1, "b": [2, 3], 'c': None}
@property
$ git log --oneline -n 5 | grep -E '^[0-9a-f]{7}'
SELECT COUNT(*) FROM t WHERE name LIKE '%o''brien%';
<div class="row"><a href="/x?y=1&amp;z=2">it's</a></div>
<table><tr><td>1</td></tr></table><br/>
{"key": "value", "n": -1.5e-10, "ok": true, "nil": null}
const f = async () => { await g?.(x ?? 0); };
template <typename T> auto g(T&& t) -> decltype(auto);
fn main() { let v: Vec<_> = (0..10).map(|x| x * x).collect(); }
\begin{equation} \frac{a}{b} \leq \sum_{i=0}^{n} x_i^2 \end{equation}
movaps %xmm0, 16(%rsp)
C:\Users\me\Documents\file.txt
../a/b/./c.tar.gz
https://example.com/a/b?c=d&e=f#g
http://user:pw@[2001:db8::1]:8080/~x/%7Euser/
someone.else+tag@mail.example.org
ftp://192.0.2.17/pub/README
2024-02-29T23:59:59.999+05:30
+1 (555) 010-9999
#hashtag @mention $TICKER 50% 5'10" 10°C ~3/4
!!! ??? ... --- === *** ___ ,,, ;;; ::: ((())) [[[]]] {{{}}} <<<>>>
==================== -------- ________________ ........ /////// \\\\
don't.do_that camelCaseWord snake_case_word kebab-case-word SCREAMING_CASE
TheHTTPServer2xx v1.2.3-rc4+build.5 x86_64 utf-8 C++ C# F#
base64: aGVsbG8gd29ybGQ= sha: e3b0c44298fc1c149afbf4c8996fb924
a=1;b=2 a,b a.b a:b a/b a\b a|b a&b a^b a~b a`b` a"b"
# Title
- item
1. one
> quote
**bold** _it_ `code`
```c
""".strip().split("\n")

DIGITS = [
    "1", "12", "123", "1234", "12345", "1234567890", "0", "00", "007", "3.14", "1,000,000", "1e10", "0xff", "-1", "+1", "1st", "2nd",
    "a1", "1a", "a1b2c3", "1 2 3", " 1", "  12", "12 ", "x123456y", "\u0661\u0662\u0663", "\u06f1\u06f2\u06f3\u06f4", "\u0967\u0968\u0969\u096a",
    "\u09e7\u09e8", "\u0e51\u0e52\u0e53\u0e54", "\uff11\uff12\uff13", "\u2160\u2161\u2162", "\u00b2\u00b3", "\u00bd", "\u00bc1", "\u2070\u2074", "\u2460\u2461",
    "\u3007\u4e00\u4e8c", "\u3021\u3022", "\U0001d7d8\U0001d7d9\U0001d7da\U0001d7db", "\U0001f101", "\u1369\u136a", "\u19d0\u19d1", "1\u06612", "12\uff113", "1\u00bd2", "\u0be7\u0be8\u0be9",
]  # fmt: skip

SPECIAL_TEXTS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_", "im_end|>", "<|im_end|",
    "a<|im_end|>b", " <|im_end|> ", "<|endoftext|><|endoftext|>", "<repo_name>", "<reponame>x", "<file_sep>", "<filename>", "<gh_stars>",
    "<issue_start>", "<jupyter_code>", "<empty_output>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>",
    "<start_of_turn>", "<end_of_turn>", "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<bos>", "<eos>", "<pad>", "<unk>",
    "<mask>", "<unused0>", "<unused99>", "[multimodal]", "<start_of_image>", "<0x0A>", "<0x41><0x00>", "<s>", "</s>", "<b>", "</b>", "<table>",
    "<td>x</td>", "<h1>", "<think>", "</think>", "<tool_call>", "[INST] [/INST]", "<<SYS>>", "\u2581", "\u2581\u2581", "a\u2581b", " \u2581 ", "\u0120", "\u0120the", "\u010a", "\u0100",
]  # fmt: skip

# First and last code point of blocks and parts of blocks to draw from.
BLOCKS = [
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F),
    (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xAFF), (0xB00, 0xBFF), (0xC00, 0xCFF),
    (0xD00, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF),
    (0x1400, 0x167F), (0x1680, 0x16FF), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1A00, 0x1AAF), (0x1B00, 0x1BFF), (0x1C50, 0x1CCF), (0x1D00, 0x1DFF),
    (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20CF), (0x2100, 0x218F), (0x2190, 0x22FF), (0x2300, 0x245F), (0x2460, 0x24FF),
    (0x2500, 0x27BF), (0x2800, 0x28FF), (0x2C00, 0x2DFF), (0x2E00, 0x2FFF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3100, 0x33FF), (0x4E00, 0x9FFC),
    (0xA000, 0xA4CF), (0xA4D0, 0xA6FF), (0xA700, 0xABFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xF900, 0xFDFF), (0xFE00, 0xFFFD), (0x10000, 0x101FF),
    (0x10280, 0x10FFF), (0x11000, 0x11FFF), (0x12000, 0x123FF), (0x13000, 0x1342F), (0x16800, 0x16FFF), (0x1B000, 0x1B2FF), (0x1D000, 0x1D3FF),
    (0x1D400, 0x1D7FF), (0x1E900, 0x1EEFF), (0x1F000, 0x1F2FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DD), (0x30000, 0x3134A), (0xE0100, 0xE01EF),
    (0x100000, 0x10FFFD),
]  # fmt: skip


def assigned(first: int, last: int) -> list[str]:
    """The characters of a block that Unicode 14 assigns, private use included, surrogates not."""
    return [c for c in map(chr, range(first, last + 1)) if unicodedata.category(c) not in ("Cn", "Cs")]


def slices(rng: random.Random, texts: list[str], count: int, longest: int) -> Iterator[str]:
    """Random pieces of the texts, up to `longest` characters, cut anywhere."""
    for _ in range(count):
        text = rng.choice(texts)
        start = rng.randrange(len(text))
        yield text[start : start + rng.randint(2, longest)]


def written_by_hand() -> Iterator[str]:
    yield from ("", " ", "\n", "\t", "a", " a", "a ", "\0", "\0\0", "a\0b", "\ufffd", "\uffff", "\U0010ffff")
    yield from SENTENCES
    yield from EMOJI
    yield from ("".join(EMOJI[i : i + 4]) for i in range(0, len(EMOJI), 4))
    yield from (f"ok {emoji}, {emoji}!" for emoji in EMOJI[::3])
    yield from COMBINING
    yield from (f"x {text} y{text}" for text in COMBINING[::2])
    for text in CONTRACTIONS:
        yield from (text, f"it{text}", f"IT{text} so", f"1{text}", f" {text}z")
    for text in SPACES:
        yield from (text, f"a{text}b", f"a {text}", f"{text}b.", f"a.{text}{text}1", f"{text}\n{text}x")
    yield from CODE
    yield "\n".join(CODE[:4])
    yield "\n    ".join(CODE[5:9]) + "\n\n\n"
    yield "\r\n\t\t".join(CODE[14:17])
    yield from DIGITS
    yield from (f"in {digits}, or {digits}%" for digits in DIGITS[::2])
    yield from SPECIAL_TEXTS
    for code in [*range(1, 32), *range(127, 160)]:
        yield from (chr(code), f"a{chr(code)}b {chr(code)}")
    for character in " \n\t":
        yield from (character * n for n in range(3, 36))
        yield from (f"x{character * n}y" for n in (2, 5, 15, 16, 17, 30, 31, 32, 33, 70))


def random_words(rng: random.Random) -> Iterator[str]:
    """Strings over small alphabets, where the rules of pre-tokenizers meet often."""
    alphabets = ["ab1 .", "aA1' s", "x \t\n", "a\r\n ", "'sdtrelvm ", " .,!?\n", "09 ,.", "\u00e9\u4e2d1 a", " \xa0\u3000a1", "_-/ aB", "({[<>]}) x\n", "\u0627\u0661 a1"]
    for _ in range(700):
        alphabet = rng.choice(alphabets)
        yield "".join(rng.choices(alphabet, k=rng.randint(3, 14)))


def random_unicode(rng: random.Random) -> Iterator[str]:
    blocks = [assigned(*block) for block in BLOCKS]
    for block in blocks:
        for _ in range(4):
            yield "".join(rng.choices(block, k=rng.randint(2, 6)))
    for _ in range(150):
        yield "".join(rng.choice(rng.choice(blocks)) if rng.random() < 0.6 else rng.choice(" a1.\n'") for _ in range(rng.randint(3, 8)))


def long_texts(rng: random.Random) -> Iterator[str]:
    yield "a" * 3000
    yield "".join(rng.choices("etaoinshrdlucmfwyp", k=3000))
    yield " " * 3000 + "end"
    yield "word" * 400 + "!" * 200 + "7" * 200 + "\n" * 200
    yield "".join(rng.choices("的一是不了人我在有他這", k=150))


def all_texts(wikipedia: list[str]) -> list[str]:
    """Every text once, in a fixed order, for a fixed list of Wikipedia paragraphs."""
    if unicodedata.unidata_version != UNICODE_VERSION:
        raise RuntimeError(
            f"this Python has Unicode {unicodedata.unidata_version}; Python 3.11, with {UNICODE_VERSION}, makes the goldens"
        )
    rng = random.Random(SEED)
    not_ascii = [text for text in wikipedia if not text.isascii()]
    texts = [
        *written_by_hand(),
        *slices(rng, SENTENCES, 130, 14),
        *slices(rng, wikipedia, 300, 60),
        *slices(rng, not_ascii, 80, 40),
        *random_words(rng),
        *random_unicode(rng),
        *long_texts(rng),
    ]
    return list(dict.fromkeys(texts))
