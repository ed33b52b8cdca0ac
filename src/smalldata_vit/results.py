"""`results.json`, which scripts read: its schema, and its atomic replacement; and the JSON files beside it.

Schema 1. Every field but `schema` and `status` may be missing while its part has not run.

    schema      1; grows when a field changes its meaning or goes away
    status      of the whole run: running, finished, failed, interrupted
    error       one sentence, when status is failed
    name, seed, config_hash, command (which continues the run)
    experiment  as it was chosen (gani/vit_cifar10), where one was
    flavour     fixed or faithful, where a published system's experiment was chosen
    stages      {stage: {
        status          running, finished, failed, interrupted, skipped
        metrics         {flat name: number}; accuracies are fractions: test/accuracy, val/knn_accuracy,
                        test/linear_accuracy@10 … @all
        untrained       the same for the encoder before its first step (pretrain)
        selected        which weights were tested, {rule: last or best, step}
        validation      what judged during training, and chose the best: carved (from the training images), own (the
                        dataset's validation images), none, or test (the test images, as some papers do: then `best` is
                        the best on test)
        start_from      {source, sha256}, or null for scratch; from_scratch says it of the whole chain
        guidance        of a guided stage: steps_on, seconds_per_step_on, steps_off, seconds_per_step_off,
                        seconds_per_epoch_guided and _unguided, seconds_spent, seconds_saved; null where no step of a
                        kind could be timed
        split_hash, config_hash, seed, device, seconds (of training), images_seen, steps, flops,
                        joules (of the processors while it trained on a CPU; absent where no counter can be read, or it
                        was resumed)}}
    baselines   {pixels: {flat name: number}}
    reasons     {path of a null: why}: a number that is not finite stands as null, for JSON has no word for it
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from smalldata_vit.atomic import replaced
from smalldata_vit.output import Lock

SCHEMA = 1
HIDDEN = "<not written: a secret>"

_SECRET = r"(?:key|token|password|passwd|secret|apikey)"
_SECRET_NAME = re.compile(rf"(?:^|[^a-z0-9]){_SECRET}$", re.IGNORECASE)
_DIGEST = re.compile(r"^[0-9a-f]{64}$")  # a stage's key in the store
_SECRET_OVERRIDE = re.compile(rf"^([+~]*(?:[\w@./:-]*[^A-Za-z0-9])?{_SECRET}=)(.+)$", re.IGNORECASE | re.DOTALL)


class Results:
    """The results file of one run; several processes may add to it.

    Arguments:
        path: of `results.json`. An existing one is continued.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, Any]:
        """What stands in the file, or a fresh record; ValueError if the file is damaged or of another schema."""
        if not self.path.exists():
            return {"schema": SCHEMA, "status": "running", "stages": {}, "baselines": {}, "reasons": {}}
        data = read_json(self.path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else None
            raise ValueError(f"{self.path} has schema {found!r}, this version reads schema {SCHEMA}: move it away")
        return data

    def update(self, changes: Mapping[str, object]) -> dict[str, Any]:
        """Put changes in, replace the file, and return what stands in it now.

        A stage's record and a baseline take the place of an earlier one; everything else is merged by name. A status
        other than failed ends an earlier error.
        """
        with Lock(self.path.with_name(f".{self.path.name}.lock"), what=str(self.path), waits=True):
            data = self.load()
            seen: dict[str, str | None] = {}
            clean = plain(changes, seen=seen)
            gone = [f"{section}.{name}." for section in ("stages", "baselines") for name in clean.get(section, {})]
            for place in [p for p in data["reasons"] if p in seen or p.startswith(tuple(gone))]:
                del data["reasons"][place]
            data["reasons"] |= {place: why for place, why in seen.items() if why is not None}
            if clean.get("status", "failed") != "failed":
                data["error"] = None
            for name, value in clean.items():
                data[name] = data[name] | value if isinstance(value, dict) and name in data else value
            write_json(self.path, data)
        return data


def write_json(path: Path, data: object) -> None:
    """Replace a JSON file by plain data, without its secrets; TypeError naming the place of a value JSON cannot hold.

    A number that is not finite becomes null; a mapping then gets an entry `reasons`, {path: why}.
    """
    seen: dict[str, str | None] = {}
    clean = plain(data, seen=seen)
    reasons = {place: why for place, why in seen.items() if why is not None}
    if reasons and isinstance(clean, dict):
        clean["reasons"] = clean.get("reasons", {}) | reasons
    text = json.dumps(without_secrets(clean), indent=2, ensure_ascii=False, allow_nan=False)
    # A file name on disk may hold bytes that are no text; Python keeps them as surrogates, which UTF-8 refuses.
    with replaced(path) as file:
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def read_json(path: Path) -> Any:
    """The data of a JSON file; ValueError naming the file if it is none."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not whole JSON ({error}); move it away and run again") from error


def plain(value: object, path: str = "", seen: dict[str, str | None] | None = None) -> Any:
    """Only what JSON knows. A number that is not finite becomes None; `seen` gets each number's path and, then, why."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if seen is not None:
            seen[path] = _why_null(number)
        return number if math.isfinite(number) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_name(k, path): plain(v, f"{path}.{k}" if path else str(k), seen) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(v, f"{path}[{i}]", seen) for i, v in enumerate(value)]
    raise TypeError(f"{path or 'the value'} is a {type(value).__name__}; give numbers, text, lists or mappings")


def without_secrets(data: Any) -> Any:
    """The same plain data; texts named key, token, password or secret, and the environment's secrets, are replaced."""
    if isinstance(data, dict):
        return {name: _hidden_if_named(name, without_secrets(value)) for name, value in data.items()}
    if isinstance(data, list):
        return [without_secrets(value) for value in data]
    return redacted(data) if isinstance(data, str) else data


def redacted(text: str) -> str:
    """The text without the values of the environment's secrets and of an override such as `api_key=x`."""
    for secret in _environment_secrets():
        text = text.replace(secret, HIDDEN)
    return _SECRET_OVERRIDE.sub(rf"\g<1>{HIDDEN}", text)


def _hidden_if_named(name: str, value: Any) -> Any:
    # Only texts: a class of images may well be called `key`, with a count behind it.
    if not isinstance(value, str) or not value or not _SECRET_NAME.search(name):
        return value
    return value if name == "key" and _DIGEST.match(value) else HIDDEN


def _environment_secrets() -> list[str]:
    # Shorter values would blank ordinary words out.
    return [value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= 8]


def _name(key: object, path: str) -> str:
    if isinstance(key, str | int):
        return str(key)
    raise TypeError(f"{path or 'the mapping'} has the key {key!r}; keys are text")


def _why_null(number: float) -> str | None:
    if math.isfinite(number):
        return None
    return "not a number" if math.isnan(number) else "minus infinity" if number < 0 else "infinity"
