"""The page of the live server as it is written: names that meet, nothing from outside, labels.

What it does is tested in a browser, see tests/browser.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sfumato import controls, protocol
from sfumato.emotions import EMOTIONS
from sfumato.pace import Quality
from sfumato.protocol import Kind, Packet
from sfumato.render.badge import TEXT
from sfumato.timebase import FPS, SAMPLE_RATE

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[1] / "sfumato" / "server" / "page"
SCRIPTS = {path.name: path.read_text("utf8") for path in sorted(PAGE.glob("*.js"))}
STYLE = (PAGE / "style.css").read_text("utf8")
HTML = (PAGE / "index.html").read_text("utf8")
NODE = shutil.which("node")
VOID = {"meta", "link", "img", "input", "br", "path", "rect", "circle", "use"}


class Element:
    """One element of the page, its text and what is in it."""

    def __init__(self, name: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.name, self.attributes, self.parent, self.text = name, attributes, parent, ""

    def within(self, name: str, value: str) -> bool:
        """Whether this or something around it has an attribute of this value."""
        here: Element | None = self
        while here is not None and here.attributes.get(name) != value:
            here = here.parent
        return here is not None


class Reader(HTMLParser):
    """Reads the page into a flat list of elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parent = self._open[-1] if self._open else None
        element = Element(tag, {k: v or "" for k, v in attrs}, parent)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


def read() -> list[Element]:
    reader = Reader()
    reader.feed(HTML)
    return reader.elements


ELEMENTS = read()
IDS = [e.attributes["id"] for e in ELEMENTS if "id" in e.attributes]


def strings(pattern: str, text: str) -> set[str]:
    """The quoted strings within every match of a pattern."""
    return {s for match in re.findall(pattern, text) for s in re.findall(r'"([\w-]+)"', match)}


def node(code: str) -> str:
    """What a module prints that can import the page's."""
    if NODE is None:
        pytest.skip("node is not installed")
    code = re.sub(r'(from |import\()"\./', rf'\1"{PAGE.as_uri()}/', code)
    run = subprocess.run(
        [NODE, "--input-type=module", "--no-warnings", "-e", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_element_that_the_scripts_name_is_there() -> None:
    assert len(IDS) == len(set(IDS))
    for name, text in SCRIPTS.items():
        named = strings(r"\bel\([^)]*\)", text)
        named |= strings(r"for \(const id of \[[^\]]*\]", text)
        assert named <= set(IDS), name


def icons() -> set[str]:
    """Ids of the icons that the page and its scripts show."""
    everything = "".join(SCRIPTS.values()) + HTML
    chosen = re.findall(r'setIcon\(el\("[\w-]+"\),([^;]*)\);', everything)
    named = {f"i-{name}" for part in chosen for name in re.findall(r'"([\w-]+)"', part)}
    return named | set(re.findall(r'href="#(i-[\w-]+)"', everything))


def test_no_id_is_left_over() -> None:
    everything = "".join(SCRIPTS.values()) + STYLE
    keys = ("for", "aria-labelledby")
    referred = {
        name for e in ELEMENTS for key in keys for name in e.attributes.get(key, "").split()
    }
    for name in IDS:
        used = f'"{name}"' in everything or f"#{name}" in everything
        assert used or name in referred | icons(), name


def test_every_reference_is_met() -> None:
    assert icons() <= set(IDS)
    for element in ELEMENTS:
        for key in ("for", "aria-labelledby", "aria-describedby"):
            assert set(element.attributes.get(key, "").split()) <= set(IDS)


def test_nothing_comes_from_outside() -> None:
    files = {path.name for path in PAGE.iterdir()}
    for element in ELEMENTS:
        for key in ("src", "href"):
            target = element.attributes.get(key)
            assert target is None or target in files or target.startswith("#"), target
    assert "url(" not in STYLE and "@import" not in STYLE
    for name, text in SCRIPTS.items():
        for target in re.findall(r'(?:from|import|new URL\()\s*"(\./[^"]+)"', text):
            assert target.removeprefix("./") in files, name
        addresses = set(re.findall(r"https?://[\w./]*", text)) - {"https://", "http://localhost."}
        assert addresses <= {"http://www.w3.org/2000/svg"}, name  # a name, not an address


def test_every_script_is_used_and_short() -> None:
    everything = "".join(SCRIPTS.values()) + HTML
    for name, text in SCRIPTS.items():
        assert f'/{name}"' in everything or f'"{name}"' in everything, name
        assert text.count("\n") <= 250, name
        assert max(map(len, text.splitlines())) <= 110, name


def test_styles_and_scripts_are_files_of_their_own() -> None:
    """So that the server can forbid all others."""
    for element in ELEMENTS:
        assert "style" not in element.attributes
        assert not [key for key in element.attributes if key.startswith("on")]
        assert element.name != "style"
        assert element.name != "script" or element.attributes["src"]


def test_everything_has_a_name() -> None:
    labelled = {e.attributes["for"]: e.text.strip() for e in ELEMENTS if "for" in e.attributes}
    for element in ELEMENTS:
        own = element.attributes.get("aria-label") or element.attributes.get("aria-labelledby")
        if element.name == "button":
            assert element.text.strip() or own
        if element.name in {"input", "select", "textarea"}:
            around = element.parent
            wrapped = around is not None and around.name == "label" and around.text.strip()
            assert own or wrapped or labelled.get(element.attributes["id"]), element.attributes
        if element.name in {"video", "canvas", "section", "dialog"}:
            assert own, element.attributes
        if element.name == "img":
            assert "alt" in element.attributes
        if element.attributes.get("role") in {"slider", "radiogroup", "group"}:
            assert own, element.attributes
    assert [e.attributes["lang"] for e in ELEMENTS if e.name == "html"] == ["en"]
    levels = [int(e.name[1]) for e in ELEMENTS if re.fullmatch("h[1-6]", e.name)]
    assert levels[0] == 1 and set(levels[1:]) == {2}


def test_states_are_read_out() -> None:
    roles = {e.attributes.get("role"): e for e in ELEMENTS}
    assert roles["status"].attributes["aria-live"] == "polite"
    assert "alert" in roles
    assert "prefers-reduced-motion" in STYLE and "prefers-color-scheme: dark" in STYLE
    assert ":focus-visible" in STYLE


def test_the_mark_is_on_the_stage_in_full_screen_too() -> None:
    mark = next(e for e in ELEMENTS if e.attributes.get("id") == "mark")
    assert mark.text == TEXT
    assert mark.within("id", "stage")  # what fills the screen
    assert not mark.within("hidden", "")
    assert 'const stage = el("stage")' in SCRIPTS["stage.js"]
    assert "stage.requestFullscreen()" in SCRIPTS["stage.js"]
    for rule in re.findall(r"([^{}]*)\{([^{}]*)\}", STYLE):
        hides = "display: none" in rule[1] or "visibility: hidden" in rule[1]
        assert not (".mark" in rule[0] and hides)


def luminance(colour: str) -> float:
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("dark", [False, True])
def test_letters_can_be_read(dark: bool) -> None:
    """Contrast of 4.5 and more, as WCAG wants it for small letters."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    colours: dict[str, str] = {}
    for block in blocks[: 1 + dark]:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    pairs = [("ink", "paper"), ("ink", "sheet"), ("soft", "paper"), ("soft", "sheet")]
    pairs += [("on-umber", "umber"), ("umber", "paper"), ("bad", "paper")]
    for one, other in pairs:
        low, high = sorted([luminance(colours[one]), luminance(colours[other])])
        assert (high + 0.05) / (low + 0.05) >= 4.5, (one, other)


def test_feelings_and_ranges_are_those_of_the_product() -> None:
    steer = SCRIPTS["steer.js"]
    (names,) = re.findall(r"FEELINGS = \[(.*?)\]", steer)
    assert tuple(re.findall(r'"(\w+)"', names)) == EMOTIONS[1:]
    motions = re.findall(r'name: "(\w+)".*?min: ([\d.]+), max: ([\d.]+)', steer)
    assert {name for name, _, _ in motions} == {"distance", "expressiveness", "head"}
    (gaze,) = re.findall(r"MOST_GAZE = \[(\d+), (\d+)\]", steer)
    for name, low, high in motions:
        for value in (float(low), float(high)):
            controls.MotionOptions.from_json({name: value})
    for sign in (-1, 1):
        controls.MotionOptions.from_json({"gaze": [sign * float(angle) for angle in gaze]})


def test_qualities_have_short_names() -> None:
    figures = SCRIPTS["figures.js"]
    for quality in Quality:
        assert re.search(rf'^  "?{quality}"?: "', figures, re.M), str(quality)


def test_scripts_are_well_formed() -> None:
    if NODE is None:
        pytest.skip("node is not installed")
    for name, text in SCRIPTS.items():
        check = [NODE, "--check", "--input-type=module"]
        run = subprocess.run(check, input=text, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{name}: {run.stderr}"


def test_messages_are_those_of_the_protocol() -> None:
    samples = np.linspace(-0.5, 0.5, 640, dtype=np.float32)
    packet = Packet(70_000, True, False, samples, b"\xff\xd8picture").pack()
    control = protocol.message(Kind.STATE, {"quality": "full", "portrait": "Zoë"})
    found = json.loads(
        node(f"""
        import * as m from "./messages.js";
        const bytes = (hex) => Uint8Array.from(hex.match(/../g), (h) => parseInt(h, 16)).buffer;
        const frame = m.unpack(bytes("{packet.hex()}")).content;
        console.log(JSON.stringify({{
          frame: {{ ...frame, samples: [...frame.samples], picture: await frame.picture.text() }},
          state: m.unpack(bytes("{control.hex()}")),
          unknown: m.unpack(bytes("c8ff")),
          sound: [...m.packSound(m.Kind.SOUND, Int16Array.of(1, -2))],
          hello: [...m.packJson(m.Kind.HELLO, {{ version: m.VERSION }})],
          constants: [m.VERSION, m.RATE, m.FPS, m.MOST_SAMPLES], kinds: m.Kind,
        }}));""")
    )
    frame = found["frame"]
    assert frame["index"] == 70_000 and frame["speech"] and not frame["ends"]
    pcm = np.frombuffer(protocol.to_pcm(samples), "<i2")
    np.testing.assert_array_equal(frame["samples"], pcm)
    assert frame["picture"].endswith("picture")
    assert found["state"] == {"kind": 5, "content": {"quality": "full", "portrait": "Zoë"}}
    assert found["unknown"] is None
    assert bytes(found["sound"]) == bytes([Kind.SOUND]) + b"\x01\x00\xfe\xff"
    assert bytes(found["hello"]) == protocol.message(Kind.HELLO, {"version": protocol.VERSION})
    assert found["constants"] == [protocol.VERSION, SAMPLE_RATE, FPS, protocol.MOST_SAMPLES]
    assert found["kinds"] == {kind.name: kind.value for kind in Kind}


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000, 8_000])
def test_the_microphone_is_resampled_however_it_is_cut(rate: int) -> None:
    found = json.loads(
        node(f"""
        import {{ Resampler }} from "./resample.js";
        const tone = (hz) => Float32Array.from({{ length: {rate} }},
          (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * i) / {rate}));
        const whole = new Resampler({rate}, 16000).push(tone(1000));
        const parts = new Resampler({rate}, 16000), cut = [], sound = tone(1000);
        for (let at = 0; at < sound.length; at += 128) {{
          cut.push(...parts.push(sound.slice(at, at + 128)));
        }}
        const high = new Resampler({rate}, 16000).push(tone(Math.min(11000, {rate} * 0.45)));
        console.log(JSON.stringify({{ whole: [...whole], cut, high: [...high] }}));""")
    )
    whole, cut = np.array(found["whole"]), np.array(found["cut"])
    assert abs(len(whole) - SAMPLE_RATE) < 64  # what waits for its right side
    assert len(whole) == len(cut) and np.abs(whole - cut).max() < 1e-6
    time = np.arange(len(whole)) / SAMPLE_RATE
    wanted = 0.5 * np.sin(2 * np.pi * 1000 * time)
    middle = slice(100, -100)
    assert np.abs(whole - wanted)[middle].max() < 0.01
    if rate > 2 * 11_000:  # above what 16 kHz can hold: gone
        assert np.abs(np.array(found["high"])[middle]).max() < 0.01


def test_the_delay_is_measured_on_the_sound_itself() -> None:
    found = json.loads(
        node("""
        import { DelayMeter } from "./delay.js";
        let state = 1;
        const chance = () => (state = (state * 16807) % 2147483647) / 2147483647;
        const loud = Array.from({ length: 60 }, () => 0.05 + chance());
        const voice = (seconds, tone) => Int16Array.from({ length: 16000 * seconds }, (_, i) =>
          9000 * loud[Math.floor(i / 1600) % 60] * Math.sin(i * tone));
        const measure = (lag, said) => {
          const meter = new DelayMeter();
          const heard = voice(5, 0.31);
          for (let at = 0; at < heard.length; at += 320) {
            meter.heard(heard.subarray(at, at + 320), 1000 + at / 16);
          }
          for (let at = 0; at + 640 <= said.length; at += 640) {
            meter.said(said.subarray(at, at + 640), 1000 + lag + at / 16);
          }
          return meter.measure(6000);
        };
        console.log(JSON.stringify([
          measure(185, voice(5, 0.31)), measure(900, voice(5, 0.05)),
          measure(100, new Int16Array(80000)),
          measure(100, Int16Array.from({ length: 80000 }, () => 3000 * (chance() - 0.5))),
        ]));""")
    )
    assert abs(found[0] - 185) <= 5
    assert abs(found[1] - 900) <= 5  # another tone, the same rhythm
    assert found[2:] == [None, None]  # silence, and a noise that has no rhythm


def test_frames_are_played_evenly_and_wait_longer_only_while_they_must() -> None:
    found = json.loads(
        node("""
        let now = 0;
        Object.defineProperty(globalThis, "performance", { value: { now: () => now } });
        globalThis.requestAnimationFrame = () => {};
        const { Player } = await import("./player.js");
        const shown = [];
        const canvas = { getContext: () => ({}) };
        const player = new Player(canvas, ({ index }) => shown.push([index, now]));
        const feed = (index, arrival) => {
          for (; now < arrival; now += 4) player.draw();
          player.push({ index, samples: new Int16Array(640), picture: null });
        };
        let index = 0;
        for (; index < 100; index++) feed(index, 40 * index + (index % 2 ? 15 : 0));
        const even = { shown: shown.slice(), late: player.late };
        feed(index++, 40 * 100 + 300);  // a stop of the network, then all at once
        for (; index < 108; index++) feed(index, now);
        const after = player.wait;
        for (; index < 2000; index++) feed(index, 40 * index);
        console.log(JSON.stringify({ even, late: player.late, after, wait: player.wait,
          delay: shown.at(-1)[1] - 40 * shown.at(-1)[0], count: shown.length }));""")
    )
    times = np.array(found["even"]["shown"])
    assert found["even"]["late"] == 0
    assert np.abs(np.diff(times[:, 1]) - 40).max() <= 4  # the uneven arrival is not seen
    assert (times[:, 1] - 40 * times[:, 0]).max() <= 64
    assert found["late"] == 1 and found["after"] > 0.06
    assert found["wait"] == pytest.approx(0.06)  # the calm has brought it back
    assert found["delay"] <= 100
    assert found["count"] >= 1990


def test_webrtc_goes_by_the_relays_that_the_server_names() -> None:
    found = json.loads(
        node("""
        globalThis.document = { baseURI: "http://localhost/sub/" };
        const relay = { urls: ["turn:relay"], username: "1", credential: "c" };
        const asked = [];
        globalThis.fetch = async (url) => {
          asked.push(String(url));
          return { ok: true, json: async () => ({ iceServers: [relay] }) };
        };
        globalThis.RTCPeerConnection = class {
          constructor(configuration) {
            console.log(JSON.stringify({ asked, configuration }));
            throw new Error("enough");
          }
        };
        const { openPeer } = await import("./rtc.js");
        await openPeer(AbortSignal.timeout(1000)).catch(() => {});""")
    )
    assert found["asked"] == ["http://localhost/sub/api/ice"]
    relay = {"urls": ["turn:relay"], "username": "1", "credential": "c"}
    assert found["configuration"] == {"iceServers": [relay]}
