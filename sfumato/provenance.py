"""The mark on everything that leaves: signed Content Credentials (C2PA), and how to read them.

A manifest inside the file says that a model made the picture, which version, and from which photo
and recording (their SHA-256). It is signed with a key of the user's own, made at first use, which
proves that nothing was changed since, not who the user is: the certificate carries no name. Signing
comes last, as any later copy or conversion of the file would break the signature.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato import weights
from sfumato.errors import InputError, OutputError
from sfumato.identity import Identity
from sfumato.media.files import one_line, replacing, require_file
from sfumato.version import __version__

GENERATOR = "Sfumato"
INPUTS_LABEL = "org.sfumato.inputs"
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# The photo's own pixels and a real voice, put together with what a trained model invents.
SOURCE_TYPE = _IPTC + "compositeWithTrainedAlgorithmicMedia"
_MACHINE_TYPES = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")


@dataclass(frozen=True)
class Report:
    """What the mark of a file says.

    Attributes:
        marked: A manifest is there that says a machine made or composed this.
        generator: Program that wrote the manifest, with its version; None without a manifest.
        intact: The signature fits and nothing was changed since.
        own: Signed with the key of this computer's user.
        inputs: SHA-256 of "photo", "sound" and "motion" that went in, where Sfumato noted them.
        weights: Fingerprint of the weights that made it.
        problems: Codes of the checks that failed (names of the C2PA specification).
    """

    marked: bool
    generator: str | None = None
    intact: bool = False
    own: bool = False
    inputs: dict[str, str] = field(default_factory=dict)
    weights: str | None = None
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.generator is None:
            return (
                "No mark found: the file carries no Content Credentials. That is no proof of a"
                " camera: copying through other programs removes them."
            )
        lines = [
            "Made by a machine." if self.marked else "Content Credentials, not of a machine.",
            f"By         {self.generator}",
            f"Signature  {self._signature()}",
        ]
        for name, digest in sorted(self.inputs.items()):
            lines.append(f"{name.capitalize():<10} sha256 {digest}")
        if self.weights is not None:
            lines.append(f"Weights    {self.weights}")
        return "\n".join(lines)

    def _signature(self) -> str:
        if not self.intact:
            return f"BROKEN, the file was changed after signing ({', '.join(self.problems)})"
        return "good, by this computer's key" if self.own else "good, by a key of another computer"


def marker(
    *, photo: str | None = None, sound: str | None = None, motion: str | None = None
) -> Callable[[Path], None]:
    """A function that signs a finished MP4, PNG or JPEG in place; the writers' ``finish`` hook.

    The key is made or read here, before work starts, so that nothing fails at the very end.

    Args:
        photo: SHA-256 of the photo, hexadecimal.
        sound: SHA-256 of the recording.
        motion: SHA-256 of the motion's arrays one after another, in the order of
            :class:`sfumato.motionfile.Motion`: of the motion, not of a file that holds it.

    Raises:
        OutputError: The key cannot be made or read.
    """
    inputs = {"photo": photo, "sound": sound, "motion": motion}
    known = {name: digest for name, digest in inputs.items() if digest is not None}
    identity = Identity.own()
    return lambda path: _sign(path, identity, known)


def verify(path: str | Path) -> Report:
    """Read the mark of any file that can carry Content Credentials.

    Raises:
        InputError: The file is missing, unreadable or of a kind that cannot carry a mark.
    """
    import c2pa

    path = require_file(path, "picture or video")
    identity = Identity.stored()
    settings: dict[str, Any] = {
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False}
    }
    if identity is not None:
        settings["trust"] = {"user_anchors": identity.authority}
    try:
        with (
            c2pa.Context(c2pa.Settings.from_dict(settings)) as context,
            c2pa.Reader(str(path), context=context) as reader,
        ):
            state, store = reader.get_validation_state() or "", json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return Report(marked=False)
    except c2pa.C2paError.NotSupported:
        raise InputError(
            f"{path} is of a kind that carries no Content Credentials: give a video or picture."
        ) from None
    except c2pa.C2paError.Io:
        raise InputError(
            f"{path} is broken or not what its name says: give a whole video or picture."
        ) from None
    except c2pa.C2paError as error:
        return Report(marked=False, generator="unknown", problems=(one_line(error, 80),))
    return _report(state, store, identity)


def _report(state: str, store: dict[str, Any], identity: Identity | None) -> Report:
    manifests: dict[str, Any] = store.get("manifests", {})
    active = manifests.get(store.get("active_manifest", ""), {})
    info = (active.get("claim_generator_info") or [{}])[0]
    name = info.get("name") or active.get("claim_generator") or "an unnamed program"
    serial = active.get("signature_info", {}).get("cert_serial_number")
    notes = _assertion(active, INPUTS_LABEL)
    failures = [status.get("code", "") for status in store.get("validation_status") or []]
    return Report(
        # Also when another program edited the file later and kept its history.
        marked=any(_by_machine(manifest) for manifest in manifests.values()),
        generator=f"{name} {info.get('version') or ''}".strip(),
        intact=state in {"Valid", "Trusted"},
        own=state == "Trusted" and identity is not None and serial == identity.serial,
        inputs={str(key): str(value) for key, value in notes.items() if key != "weights"},
        weights=notes.get("weights"),
        problems=tuple(code for code in failures if code != "signingCredential.untrusted"),
    )


def _assertion(manifest: dict[str, Any], label: str) -> dict[str, Any]:
    for assertion in manifest.get("assertions") or []:
        if assertion.get("label", "").startswith(label):
            data = assertion.get("data")
            return data if isinstance(data, dict) else {}
    return {}


def _by_machine(manifest: dict[str, Any]) -> bool:
    actions = _assertion(manifest, "c2pa.actions").get("actions") or []
    kinds = {str(action.get("digitalSourceType", "")).rsplit("/", 1)[-1] for action in actions}
    return not kinds.isdisjoint(_MACHINE_TYPES)


def _sign(path: Path, identity: Identity, inputs: dict[str, str]) -> None:
    import c2pa

    agent = {"name": GENERATOR, "version": __version__}
    created = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": agent}
    manifest = {
        "claim_generator_info": [agent],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": INPUTS_LABEL, "data": inputs | {"weights": weights.fingerprint()}},
        ],
    }
    settings = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"verify_after_sign": False},
        # Hours of video must not fill the memory: hash in pieces and copy through the disk. By
        # default the library takes twice the size of the file.
        "core": {
            "merkle_tree_chunk_size_in_kb": 1024,
            "backing_store_memory_threshold_in_mb": 8,
        },
    }
    signer = c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(
            c2pa.C2paSigningAlg.ES256, identity.chain.encode(), identity.key.encode(), None
        )
    )
    with replacing(path) as signed:
        try:
            with (
                signer,
                c2pa.Context(c2pa.Settings.from_dict(settings)) as context,
                c2pa.Builder(manifest, context=context) as builder,
            ):
                builder.sign_file(path, signed, signer)
        except c2pa.C2paError as error:
            reason = one_line(error, 120)
            raise OutputError(f"Cannot sign {path} ({reason}): is the disk full?") from error
