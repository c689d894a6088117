"""The Python API as users see it: what `import luciole` gives."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import luciole
from luciole.options import OptionKeywords, Options, parse_size
from support.small_models import CLASSES, IMAGE, save_small, small_float


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def session(model: Path) -> luciole.Session:
    return luciole.load(model)


def image(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-128, 128, IMAGE).astype(np.int8)


def test_every_public_name_is_there() -> None:
    assert set(luciole.__all__) <= set(dir(luciole))
    for name in luciole.__all__:
        assert getattr(luciole, name) is not None
    with pytest.raises(AttributeError, match="module luciole has no attribute compyle"):
        luciole.compyle  # noqa: B018


def test_the_package_is_typed() -> None:
    assert (resources.files("luciole") / "py.typed").is_file()


def test_compile_gives_a_bundle_with_its_report(model: Path, tmp_path: Path) -> None:
    bundle = luciole.compile(str(model), target="cortex-m7", name="Kws 1", keep_input=True)
    assert isinstance(bundle, luciole.Bundle)
    assert bundle.report.target == "cortex-m7" and bundle.report.memory.arena_bytes > 100
    assert bundle.report.options == (("keep_input", True),)
    bundle.save(tmp_path / "build")
    assert (tmp_path / "build" / "kws_1.h").read_text().count("KWS_1_ARENA_SIZE")
    assert luciole.compile(model, target="cortex-m7", name="Kws 1", keep_input=True).files == bundle.files


def test_a_session_tells_its_inputs_and_outputs(session: luciole.Session) -> None:
    (given,), (made,) = session.inputs, session.outputs
    assert (given.name, given.shape, given.dtype) == ("image", IMAGE, "int8")
    assert (given.scale, given.zero_point) == (pytest.approx(1 / 255), -128)
    assert (made.name, made.shape, made.scale, made.zero_point) == ("classes", (1, CLASSES), 1 / 256, -128)
    assert str(given) == '"image" int8[1, 6, 6, 3]'


def test_a_float_model_is_not_quantized(tmp_path: Path) -> None:
    session = luciole.load(save_small(tmp_path, small_float()))
    assert (session.inputs[0].dtype, session.inputs[0].scale, session.inputs[0].zero_point) == ("float32", None, None)


def test_inputs_by_name_by_position_and_in_any_layout(session: luciole.Session) -> None:
    x = image()
    y = session.run({"image": x})["classes"]
    assert y.shape == (1, CLASSES) and y.dtype == np.int8 and y.flags.writeable
    for other in ({0: x}, {"0": x}, {"image": np.asfortranarray(x)}, {"image": x[:, ::-1][:, ::-1]}):
        assert np.array_equal(session.run(other)["classes"], y)
    assert not np.array_equal(session.run({0: image(5)})["classes"], y)
    many = session.run_many([{0: x}, {0: image(5)}])
    assert np.array_equal(many[0]["classes"], y) and len(many) == 2


def test_arrays_of_another_byte_order_are_read_as_their_numbers(tmp_path: Path) -> None:
    session = luciole.load(save_small(tmp_path, small_float()))
    x = np.random.default_rng(0).normal(size=IMAGE).astype(np.float32)
    assert np.array_equal(session.run({0: x.astype(">f4")})["scores"], session.run({0: x})["scores"])


@pytest.mark.parametrize("stage", ["graph", "program", "kernel"])
def test_the_reference_gives_the_same(model: Path, session: luciole.Session, stage: Any) -> None:
    x = image(1)
    assert np.array_equal(luciole.load(model, stage=stage).run({0: x})["classes"], session.run({"image": x})["classes"])


def test_emulated_runs_are_counted(model: Path, session: luciole.Session) -> None:
    emulated = luciole.load(model, target="cortex-m4")
    x = image(2)
    assert np.array_equal(emulated.run({0: x})["classes"], session.run({0: x})["classes"])
    last = emulated.last_run
    assert last.instructions > 1000 and last.stack_bytes > 0 and last.helpers == ()
    assert last.estimated_cycles is not None and last.estimated_cycles > last.instructions
    assert [layer.operator for layer in last.layers] == [
        "conv2d",
        "conv2d",
        "conv2d",
        "add",
        "fully_connected",
        "softmax",
    ]
    assert [layer.macs for layer in last.layers] == [36 * 2 * 27, 36 * 4 * 2, 36 * 4 * 4, 0, 720, 0]
    assert 0 < last.instructions - sum(layer.instructions or 0 for layer in last.layers) < 200
    emulated.run({0: x})
    assert emulated.last_run == last
    emulated.run({0: x}, measure=False)
    assert not emulated.is_measured


def test_what_was_not_measured_says_so(session: luciole.Session) -> None:
    session.run({0: image()})
    with pytest.raises(luciole.CompileError, match="the last run was not measured"):
        session.last_run  # noqa: B018


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nam": "x"}, "unknown option nam"),
        ({"emit": "pdf"}, '--emit cannot be "pdf"'),
        ({"bundle_api": "nxp"}, '--bundle-api cannot be "nxp"'),
        ({"max_ram": "lots"}, '"lots" is no size'),
        ({"max_ram": 1.5}, "--max-ram must be a number of bytes, not 1.5"),
        ({"max_flash": -1}, "--max-flash must be a number of bytes, not -1"),
        ({"name": 5}, "--name must be text, not 5"),
        ({"keep_input": "no"}, "keep_input is on or off, not 'no'"),
        ({"target": None}, "--target must be text, not None"),
        ({"target": "z80"}, 'there is no target "z80"'),
        ({"max_ram": "0.1K"}, '"0.1K" is no size'),
        ({"max_ram": 10, "use_recipes": False}, "the arena needs 192 B, --max-ram allows 10 B"),
    ],
)
def test_wrong_options(model: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(luciole.CompileError) as error:
        luciole.compile(model, **options)
    assert message in str(error.value)


def test_wrong_words_of_load(model: Path) -> None:
    with pytest.raises(luciole.CompileError, match='--stage cannot be "llvm"'):
        luciole.load(model, stage="llvm")  # type: ignore[arg-type]
    with pytest.raises(luciole.CompileError, match="it is one of unicorn, qemu"):
        luciole.load(model, emulator="bochs")  # type: ignore[arg-type]


def test_inputs_that_are_no_arrays(session: luciole.Session) -> None:
    for given in ({0: "text"}, {0: [[1, 2], [3]]}, {0: None}, {1: image()}, {-1: image()}, {True: image()}):
        with pytest.raises(luciole.CompileError):
            session.run(given)  # type: ignore[arg-type]


def test_sizes() -> None:
    assert [parse_size(text) for text in ("0", "64K", "64 kB", "1MiB", "12b")] == [0, 65536, 65536, 1 << 20, 12]
    for text in ("", "K", "-1", "1G", "1 000", "1e3", "٣", "9" * 13):
        with pytest.raises(luciole.CompileError, match="is no size"):
            parse_size(text)


def test_the_keywords_are_the_fields_of_the_options() -> None:
    fields = {field.name for field in dataclasses.fields(Options)}
    assert set(get_type_hints(OptionKeywords)) == fields - {"target"}
