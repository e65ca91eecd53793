"""Untrusted checkpoints: honest ones load as torch loads them, all others are refused in one line."""

import math
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from pickles import call, checkpoint, integer, name, save, sequence, storage, tensor, text, write_zip
from runs_compared import same
from scenelab.errors import LabError
from scenelab.models.normalize import Classifier
from scenelab.models.registry import NETWORKS, create_model
from scenelab.runs.checkpoint import load_checkpoint, save_checkpoint
from scenelab.runs.config import OptimizerConfig, TrainConfig
from scenelab.runs.network import read_classifier, to_values
from scenelab.training.state import checkpoint_values, initialize, restore

CPU = torch.device("cpu")
DTYPES = """
    float16 bfloat16 float64 uint8 int8 int16 int32 int64 bool uint16 uint32 uint64 complex64 complex128 float8_e4m3fn
    float8_e5m2
""".split()
PROGRAM = Path(__file__).parents[1] / "programs" / "refuse_checkpoints.py"


def trained(model: str = "residual-small", kind: str = "muon"):
    """A state after one step, so that optimizers remember something, and its checkpoint."""
    config = TrainConfig(model=model, ema=0.9, optimizer=OptimizerConfig(name=kind))
    state = initialize(config, num_classes=3, device=CPU)
    state.model(torch.rand(2, 3, 64, 64)).sum().backward()
    for optimizer in state.optimizers:
        optimizer.step()
    return config, state, checkpoint_values(state, config, ("a", "b", "c"), 3)


@pytest.mark.parametrize(("model", "kind"), [("residual-small", "muon"), ("vit", "adamw"), ("plain", "sgd")])
def test_a_checkpoint_loads_as_torch_loads_it(tmp_path, model, kind):
    path = save(tmp_path / "x.pth.tar", trained(model, kind)[2])
    assert same(load_checkpoint(path), torch.load(path, weights_only=True))


def test_views_layouts_and_dtypes_survive(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    weights = {"row": base[1], "part": base[1:, 2:4], "across": base.t(), "all": base, "none": torch.empty(0, 3)}
    weights |= {"one": torch.tensor(5), "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    weights |= {name: torch.ones(3).to(getattr(torch, name)) for name in DTYPES}
    weights |= {"flag": torch.tensor(True), "empty": torch.empty(0, dtype=torch.bool), "tied": base.detach()}
    weights |= {"wide": torch.ones(3, 1).expand(3, 500), "imaginary": torch.complex(base, base).conj().imag}
    weights["parameter"] = torch.nn.Parameter(torch.ones(2))
    numbers = [1, 2**40, -1.5, None, True, (1, "ü")]
    values = load_checkpoint(save(tmp_path / "x.pth.tar", {"state_dict": weights, "numbers": numbers}))
    assert same(values["state_dict"], {key: value.detach() for key, value in weights.items()})
    assert values["numbers"] == numbers


def test_a_classifier_comes_back_as_it_was(tmp_path):
    model = create_model("simplenet-small", num_classes=3)
    values = to_values(model, arch="simplenet-small", categories=("a", "b", "c"), size=64, epoch=2)
    save_checkpoint(tmp_path / "x.pth.tar", values)
    stored, images = read_classifier(tmp_path / "x.pth.tar"), torch.rand(2, 3, 32, 32)
    assert torch.equal(stored.model(images), model.eval()(images))
    assert (stored.arch, stored.categories, stored.size, stored.epoch) == ("simplenet-small", ("a", "b", "c"), 64, 2)


WRAPPERS = {
    "compiled": "_orig_mod.",
    "DDP of compiled": "module._orig_mod.",
    "compiled DDP": "_orig_mod.module.",
    "wrapped twice": "module.module.",
    "all": "_orig_mod.module.module._orig_mod.module.",
    "Lightning": "model.",
    "Lightning of compiled": "net._orig_mod.",
    "Lightning of DDP": "_forward_module.model.module.",
    "FSDP": "_fsdp_wrapped_module.module.",
}


@pytest.mark.parametrize("prefix", WRAPPERS.values(), ids=WRAPPERS)
def test_prefixes_of_wrappers_are_removed(saved, prefix):
    weights = torch.load(saved, weights_only=True)["state_dict"]
    wrapped = {f"{prefix}{name}": value for name, value in weights.items()}
    count, average = torch.tensor(3), {f"{prefix}module.{name}": value for name, value in weights.items()}
    for changed in (wrapped, {"n_averaged": count, **wrapped}, {f"{prefix}n_averaged": count, **average}):
        stored = read_classifier(rewrite(saved, state_dict=changed))
        assert same(stored.model.network.state_dict(), weights)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "_fsdp_wrapped_module._orig_mod."])
def test_two_weights_of_one_name_are_refused(saved, prefix):
    weights = torch.load(saved, weights_only=True)["state_dict"]
    both = {**weights, **{f"{prefix}{name}": value + 1 for name, value in weights.items()}}
    for changed in (both, dict(reversed(both.items())), {**weights, f"fc.{prefix}bias": weights["fc.bias"]}):
        with pytest.raises(LabError, match=r"has both \S+ and \S+; keep one of them"):
            read_classifier(rewrite(saved, state_dict=changed))


@pytest.mark.parametrize("prefixes", [["encoder."], ["student."], ["teacher._orig_mod."], ["module.", "zoo."]])
@pytest.mark.parametrize("change", [{}, {"categories": None}])
def test_a_weight_that_is_not_expected_is_named(saved, prefixes, change):
    weights = torch.load(saved, weights_only=True)["state_dict"]
    names = [f"{prefixes[index % len(prefixes)]}{name}" for index, name in enumerate(weights)]
    first = min(names).replace("_orig_mod.", "")
    expected = f"its first weight is {first}" if change else f"{first} is not expected in it"
    with pytest.raises(LabError, match=re.escape(expected)):
        read_classifier(rewrite(saved, state_dict=dict(zip(names, weights.values(), strict=True)), **change))


def test_compiled_layers_and_moving_averages_load(saved):
    weights = torch.load(saved, weights_only=True)["state_dict"]
    network = read_classifier(saved).model.network
    for child, layer in network.named_children():
        setattr(network, child, torch.compile(layer))
    average = torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(network), use_buffers=True)
    assert any(re.match(r"module\.module\.\w+\._orig_mod\.", name) for name in average.state_dict())
    stored = read_classifier(rewrite(saved, state_dict=average.state_dict()))
    assert same(stored.model.network.state_dict(), weights)


NESTED = {
    "in itself": lambda values: {**values, "state_dict": {"state_dict": values["state_dict"]}},
    "in model": lambda values: {"model": values["state_dict"], "model_arch": "residual-small"},
    "in model, whole": lambda values: {"epoch": 9, "model": values},
    "model_state_dict": lambda values: {"model_state_dict": values["state_dict"], "model_arch": "residual-small"},
}


@pytest.mark.parametrize("nest", NESTED.values(), ids=NESTED)
def test_nested_weights_are_found(saved, nest):
    values = torch.load(saved, weights_only=True)
    stored = read_classifier(save(saved, nest(values)))
    assert same(stored.model.network.state_dict(), values["state_dict"])
    bare = read_classifier(
        save(saved, values["state_dict"]),
        factory=lambda num_classes: create_model("residual-small", num_classes=num_classes).network,
    )
    assert same(bare.model.network.state_dict(), values["state_dict"])


class Wrapped(torch.nn.Module):
    """A network whose own names look like those of a wrapper."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.module = torch.nn.ModuleDict({"model": torch.nn.Sequential(torch.nn.Linear(3, num_classes))})


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_names_of_a_network_itself_are_no_prefixes(tmp_path, prefix):
    weights = Wrapped(2).state_dict()
    values = {"state_dict": {f"{prefix}{name}": value for name, value in weights.items()}, "categories": ["a", "b"]}
    stored = read_classifier(save(tmp_path / "x.pth.tar", values), factory=Wrapped)
    assert same(stored.model.network.state_dict(), weights)


class Buffers(torch.nn.Module):
    """A network with buffers of all kinds, some infinite as the masks of attention are."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, num_classes)
        for dtype in DTYPES:
            self.register_buffer(f"in_{dtype}", torch.ones(2, 3).to(getattr(torch, dtype)))
        self.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))
        self.register_buffer("positions", torch.arange(7).expand(3, 7))
        self.register_buffer("shared", self.mask[1:])


def test_buffers_of_all_kinds_come_back(tmp_path):
    network = Buffers(num_classes=2)
    values = to_values(Classifier(network), arch="own", categories=("a", "b"), size=64, epoch=1, half=True)
    save_checkpoint(tmp_path / "x.pth.tar", values)
    stored = read_classifier(tmp_path / "x.pth.tar", factory=Buffers)
    for key, buffer in network.named_buffers():
        other = stored.model.network.get_buffer(key)
        assert (other.dtype, other.tolist()) == (buffer.dtype, buffer.tolist())
    torch.save({"state_dict": network.state_dict()}, tmp_path / "raw.pth.tar")
    raw = read_classifier(tmp_path / "raw.pth.tar", factory=Buffers)
    assert torch.equal(raw.model.network.positions, network.positions)
    network.mask[0, 0] = -math.inf
    save_checkpoint(tmp_path / "x.pth.tar", {"state_dict": network.state_dict()})
    with pytest.raises(LabError, match="mask holds a value that is not finite"):
        read_classifier(tmp_path / "x.pth.tar", factory=Buffers)


def test_a_checkpoint_of_the_handout_loads(tmp_path):
    """Its scheduler counts milestones, its best accuracy is a tensor, DataParallel puts a prefix before each name."""
    network = NETWORKS["simplenet-small"].build(num_classes=5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60])
    weights = torch.nn.DataParallel(network).state_dict()
    values = {"epoch": 3, "model_arch": "simplenet-small", "state_dict": weights, "best_acc1": torch.tensor(47.6)}
    values |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    stored = read_classifier(save(tmp_path / "x.pth.tar", values))
    assert (stored.arch, stored.epoch, len(stored.categories)) == ("simplenet-small", 3, 5)
    assert torch.equal(stored.model.network.fc.weight, network.fc.weight)


CANARY = {
    "system": call(name("posix", "system"), text("touch canary")),
    "eval": call(name("builtins", "eval"), text("open('canary', 'w')")),
    "open": call(name("_io", "open"), text("canary"), text("w")),
    "storage": call(name("torch", "FloatStorage.from_file"), text("canary"), b"\x88", integer(5)),
    "a class of torch": call(name("torch", "FloatTensor"), integer(5)),
    "a name of an allowed module": call(name("collections", "namedtuple"), text("x"), text("y")),
    "an attribute": name("collections", "OrderedDict") + b")R" + name("os", "system") + b"b",
    "a function's attribute": name("collections", "OrderedDict") + b"}b",
    "a new object": name("builtins", "open") + sequence(text("canary"), text("w")) + b"\x81",
    "an instance": b"(" + text("canary") + text("w") + b"i_io\nopen\n",
    "an extension": b"\x82\x01",
    "another file": sequence(text("module"), text("canary"), text("x"), text("y")) + b"Q",
}


@pytest.mark.parametrize("kind", CANARY)
def test_no_code_runs(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_zip(tmp_path / "x.pth.tar", checkpoint(x=CANARY[kind]))
    with pytest.raises(LabError, match=r"^checkpoint .*(holds more than|is damaged).* was not loaded \(.+\); use one"):
        load_checkpoint(path)
    assert not (tmp_path / "canary").exists()


class Touch:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


REFUSALS = {"plain": "was not loaded", "zip": "holds more than tensors and plain values and was not loaded"}
REFUSALS["legacy"] = r"format of torch before 1\.6, which is not read; save it again|is damaged and was not loaded"


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("form", REFUSALS)
def test_an_object_with_reduce_runs_no_code(tmp_path, form, protocol):
    path, canary = tmp_path / "x.pth.tar", tmp_path / "canary"
    value = {"state_dict": Touch(canary)}
    if form == "plain":
        path.write_bytes(pickle.dumps(value, protocol))
    else:
        torch.save(value, path, pickle_protocol=max(2, protocol), _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(LabError, match=REFUSALS[form]):
        load_checkpoint(path)
    assert not canary.exists()
    pickle.loads(pickle.dumps(value, protocol))
    assert canary.exists()  # the trap works


ONE = ("a/data/0", bytes(4))
HUGE = 10**10
COUNTER = name("collections", "Counter")
NONE_BY_NUMBER = [integer(number) + b"N" for number in range(10**4)]
COLLIDING = [integer(number * (2**61 - 1)) + b"N" for number in range(1, 1000)]
ENCODED = [call(name("_codecs", "encode"), b"h\0", text("latin1"))] * 99
# instructions beside the weights, and further entries of the archive
CLAIMS = {
    "bytes": (call(name("builtins", "bytearray"), integer(HUGE)),),
    "a tensor": (call(name("torch", "FloatTensor"), integer(HUGE)),),
    "a storage": (storage(HUGE // 4), ONE),
    "a negative storage": (storage(-1), ONE),
    "no storage": (storage(HUGE // 4),),
    "stride 0": (tensor((10**5, 10**5), (0, 0), storage(1)), ONE),
    "one number as a million": (tensor((10**6,), (0,), storage(1)), ONE),
    "beyond its storage": (tensor((2,), (1,), storage(1)), ONE),
    "far behind": (tensor((1,), (1,), storage(1), 10**9), ONE),
    "before": (tensor((1,), (1,), storage(1), -1), ONE),
    "a negative stride": (tensor((1,), (-1,), storage(1)), ONE),
    "many dimensions": (tensor((1,) * 60, (1,) * 60, storage(1)), ONE),
    "one storage many times": (sequence(*[tensor((10**5,), (1,), storage(10**5))] * 9), (ONE[0], bytes(4 * 10**5))),
    "copies of a text": (sequence(text("a" * 10**5) + b"q\0", *ENCODED),),
    "a far memory": (b"]r\xff\xff\xff\xff" + call(name("x", "y")),),
    "a long integer": (b"\x8b\xff\xff\xff\x7f",),
    "an attribute of a dictionary": (name("collections", "OrderedDict") + b")R}" + text("items") + b"Nsb",),
    "copies of a counter": (b"}q\0(" + b"".join(NONE_BY_NUMBER) + b"u(" + 99 * (COUNTER + b"h\0\x85R") + b"t",),
    "two folders": (b"N", ("b/data.pkl", checkpoint())),
    "a million lists": (b"(" + b"]" * 10**6 + b"t",),
    "a long text": (b"X\xff\xff\xff\xff",),
    "keys that hash alike": (b"}(" + b"".join(COLLIDING) + b"u",),
    "an entry that inflates": (storage(HUGE // 400),),
    "a program that inflates": (text("a" * 10**7),),
}


def write_claim(path: Path, claim: str) -> Path:
    instructions, *entries = CLAIMS[claim]
    if claim == "an entry that inflates":
        entries = [(ONE[0], bytes(HUGE // 100))]
    compression = zipfile.ZIP_DEFLATED if "inflates" in claim else zipfile.ZIP_STORED
    return write_zip(path, checkpoint(x=instructions), *entries, packed=compression)


def test_an_archive_behind_another_one_is_refused(tmp_path):
    """The check would read the last one, torch the first."""
    path = tmp_path / "x.pth.tar"
    bad = checkpoint(x=call(name("builtins", "bytearray"), integer(HUGE)))
    good = checkpoint(x=text("y" * (len(bad) - len(checkpoint(x=text(""))))))
    path.write_bytes(b"".join(write_zip(path, program).read_bytes() for program in (bad, good)))
    with pytest.raises(LabError, match="was not loaded"):
        load_checkpoint(path)


@pytest.mark.parametrize("claim", CLAIMS)
def test_false_claims_are_refused(tmp_path, claim):
    path = write_claim(tmp_path / "x.pth.tar", claim)
    with pytest.raises(LabError, match=r"(holds more than|is damaged).* was not loaded \(.+\); use one") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_refusing_takes_little_memory(tmp_path):
    """torch's reader would allocate 10 GB for some of them."""
    for number, claim in enumerate(CLAIMS):
        write_claim(tmp_path / f"{number:02d}.pth.tar", claim)
    done = subprocess.run([sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, timeout=120, check=True)
    refused, growth = map(int, done.stdout.split())
    assert refused == len(CLAIMS)
    assert growth < 60 << 20


def test_nested_and_cyclic_values_take_bounded_time(tmp_path):
    """Sixty lists, each holding the one before twice, and a list that holds itself."""
    laughs = b"]q\0" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60))
    path = write_zip(tmp_path / "x.pth.tar", checkpoint(model_arch=b"(" + laughs + b"t", meters=b"]q\0h\0a"))
    with pytest.raises(LabError, match="model_arch: got a tuple; expected a string"):
        load_checkpoint(path)


def rewrite(path: Path, **changes) -> Path:
    """The checkpoint with other values; what it held is read with torch."""
    return save(path, {**torch.load(path, weights_only=True), **changes})


@pytest.fixture
def saved(tmp_path):
    network = trained()[1].model
    values = to_values(network, arch="residual-small", categories=("a", "b", "c"), size=64, epoch=2)
    return save(tmp_path / "x.pth.tar", values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"epoch": value}, f"epoch: got {value!r}; expected") for value in ("3", -1, 10**18, True, float("nan"))),
        ({"model_arch": ["residual-small"]}, r"model_arch: got \[\'residual-small\'\]"),
        ({"model_arch": "\x1b[31mresidual"}, r"model_arch: got '\\x1b\[31mresidual'"),
        *(({"size": value}, f"size: got {value}; expected") for value in (0, 10**6, 64.5)),
        *(({"categories": [*map(str, range(n))]}, f"names {n} categories and has 3 outputs") for n in (2, 10**5)),
        ({"categories": ["a", "b", 3]}, r"categories\[2\]: got 3; expected a string"),
        ({"categories": ["a", "a", "b"]}, "categories: got .*; expected distinct names"),
        ({"categories": "abc"}, "categories: got 'abc'"),
        ({"categories": ["a", "b", "c" * 2000]}, r"categories\[2\]: .* at most 1000 characters"),
        ({"std": [0.2, 0.2, 0.0]}, r"std\[2\]: got 0.0; expected at least 0.000001"),
        *(({"std": value}, "refused: std") for value in ([0.2, 0.2, -1.0], [0.2, 0.2, math.nan], [0.2], "abc")),
        *(({"mean": value}, "refused: mean") for value in ([0.5, 0.5, math.inf], [0.5] * 10**5)),
        ({"mean": torch.rand(3)}, "mean: got a Tensor"),
        ({"state_dict": [1]}, "has no 'state_dict'"),
        ({"state_dict": {"fc.weight": [1]}}, r"state_dict\.fc\.weight: got \[1\]; expected an instance of Tensor"),
        ({"state_dict": {3: torch.ones(3)}}, r"state_dict.* got 3; expected a string"),
        ({"state_dict": {"\x1b[2J": torch.ones(3)}}, r"state_dict: got a dict; expected tensors with printable names"),
        ({"state_dict": {}}, "is missing from it"),
        ({"state_dict": {}, "categories": None}, "has no final layer 'fc'"),
        ({"state_dict": {"fc.weight": torch.tensor(1.0)}, "categories": []}, "has no final layer 'fc'"),
        ({"state_dict": {"fc.weight": torch.empty(0, 9)}}, "has no final layer 'fc'"),
        ({"state_dict": {"fc.weight": torch.empty(100_001, 1)}, "categories": None}, "100,001 classes; at most"),
        ({"state_dict": {"fc.weight": torch.empty(90_000, 1)}, "categories": None}, "is not of model 'residual-small'"),
        ({"model_arch": "residual"}, r"is not of model 'residual': .* is \(.*\), expected \(.*\)|is missing from it"),
        ({"model_arch": "resnet999"}, "holds a 'resnet999'; this version knows inception, plain"),
    ],
)
def test_an_invalid_header_is_refused_by_name(saved, change, message):
    with pytest.raises(LabError, match=message) as caught:
        read_classifier(rewrite(saved, **change))
    assert len(str(caught.value)) < 400


FOREIGN = [
    lambda w: w.to_sparse(),
    lambda w: w.to_sparse_csr(),
    lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    lambda w: w.to("meta"),
]
WEIGHTS = [
    *(("fc.weight", change, "holds more than tensors and plain values and was not loaded") for change in FOREIGN),
    ("fc.bias", lambda w: w * math.nan, r"fc\.bias holds a value that is not finite"),
    ("fc.weight", lambda w: w - math.inf, r"fc\.weight holds a value that is not finite"),
    ("fc.weight", lambda w: w.double() + 1e300, r"fc\.weight holds a value that is not finite"),  # in float32
    ("running_var", lambda w: w - 9, r"running_var holds a negative value"),
    ("fc.weight", lambda w: w.long(), r"fc\.weight is of torch\.int64, expected torch\.float32"),
    ("fc.weight", lambda w: w > 0, r"fc\.weight is of torch\.bool, expected torch\.float32"),
    ("fc.weight", lambda w: w.to(torch.complex64), r"fc\.weight is of torch\.complex64, expected torch\.float32"),
    ("num_batches_tracked", lambda w: w + 1j, r"tracked is of torch\.complex64, expected torch\.int64"),
]


@pytest.mark.filterwarnings("ignore")  # torch warns of what it still calls new, and of what it calls old
@pytest.mark.parametrize(("key", "change", "message"), WEIGHTS)
def test_invalid_weights_are_refused_and_named(saved, key, change, message):
    values = torch.load(saved, weights_only=True)
    key = next(name for name in values["state_dict"] if name.endswith(key))
    values["state_dict"][key] = change(values["state_dict"][key])
    with pytest.raises(LabError, match=message):
        read_classifier(save(saved, values))


def rezip(change):
    """Change the entries (ZipInfo, content) of an archive."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in change(entries):
                archive.writestr(entry, content)

    return damage


def add(*entries: tuple[str, bytes]):
    return rezip(lambda old: [*old, *entries])


def patch(at: int, form: str, value: int, place: bytes = b"PK\x01\x02"):
    """Overwrite a field of the last entry of the central directory, or of the directory's end."""

    def damage(path: Path) -> None:
        rezip(list)(path)
        data = bytearray(path.read_bytes())
        struct.pack_into(form, data, data.rindex(place) + at, value)
        path.write_bytes(data)

    return damage


def flip_a_bit(path: Path) -> None:
    """torch's own reader compares no checksums and takes the weights as they are."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    torch.load(path, weights_only=True)


END = b"PK\x05\x06"
DAMAGES = [
    (add(("../x", b"x")), r"the name '\.\./x'"),
    (add(("/etc/x", b"x")), "the name '/etc/x'"),
    (add(("a\\..\\x", b"x")), "the name"),
    (add(*((f"x/{n}", b"") for n in range(20_000))), "too many entries"),
    (rezip(lambda entries: [*entries, entries[0]]), "twice"),
    (rezip(lambda old: [*old, (old[0][0].filename.upper(), b"x")]), "the name|twice"),
    (rezip(lambda old: [*old, (old[0][0].filename.replace("data", "DATA"), b"x")]), "twice"),
    (rezip(lambda old: [*old, (old[0][0].filename.replace("data", "constants"), b"x")]), "TorchScript"),
    (rezip(lambda entries: entries[1:]), "no data.pkl"),
    (rezip(lambda entries: entries[:-4]), "whose entry has 0"),
    (patch(8, "<H", 1), "encrypted entry"),
    (patch(10, "<H", 8), "compressed entry"),
    (patch(10, "<H", 99), "compressed entry"),
    (patch(20, "<I", 10**9), "compressed entry"),
    (patch(42, "<I", 0), "Bad CRC-32"),
    (patch(12, "<I", 2**31, END), "entries"),
    (patch(16, "<I", 2**31, END), "bytes before or between"),  # positions before the file's begin
    (flip_a_bit, "is damaged and was not loaded .*CRC"),
    *((partial(os.truncate, length=size), "is damaged and was not loaded") for size in (0, 10, 2000)),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_archive_is_refused_and_a_repacked_one_loads(saved, damage, message):
    rezip(list)(saved)
    assert read_classifier(saved).epoch == 2
    damage(saved)
    with pytest.raises(LabError, match=message):
        load_checkpoint(saved)


def test_what_is_not_a_checkpoint_or_cannot_be_read_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.pth.tar")  # is not opened
    for path in (tmp_path / "pipe.pth.tar", tmp_path / "none.pth.tar"):
        with pytest.raises(LabError, match=r"does not exist( \(did you mean .*\?\))?; train first, or check the path"):
            load_checkpoint(path)
    with pytest.raises(LabError, match="has no 'state_dict'"):
        load_checkpoint(save(tmp_path / "list.pth.tar", [1, 2]))
    monkeypatch.setattr(Path, "open", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(LabError, match="cannot be read: Permission denied"):
        load_checkpoint(tmp_path / "list.pth.tar")


RESUMED = [
    *(({"step": value}, f"step: got {value}") for value in (-1, 1.5)),
    *(({"best_acc1": value}, f"best_acc1: got {value!r}") for value in ("x", math.nan)),
    ({"best_acc1": torch.ones(2)}, "best_acc1: got a Tensor"),
    ({"metrics_bytes": 2**70}, "metrics_bytes: got 1180591620717411303424"),
    ({"meters": {"telepathy": 1}}, "meters.telepathy is an unknown key"),
    ({"meters": {"loss": "1"}}, "meters.loss: got '1'; expected a number"),
    ({"meters": {"images": 1.5}}, "meters.images: got 1.5; expected an integer"),
    ({"meters": {"spent": float("inf")}}, "meters.spent: got inf"),
    ({"meters": [1]}, "meters: got .1"),
    ({"stopped": "a\nb"}, "stopped: got"),
    *(({"optimizer": value}, "was written with another optimizer") for value in (3, [])),
    (
        {"optimizer": [{"state": {}, "param_groups": []}] * 2},
        "was written with another optimizer .its parameter groups",
    ),
    ({"average": [1]}, "average: got .1.; expected an object"),
    ({"average": {"n_averaged": torch.tensor(1)}}, "is missing from it"),
]


def resume(folder: Path, config: TrainConfig, values: dict):
    """Save the values, and restore a fresh state from the file; return it with what could not be restored."""
    path, state = save(folder / "x.pth.tar", values), initialize(config, num_classes=3, device=CPU)
    return state, restore(state, load_checkpoint(path), path, arch=config.model, steps_per_epoch=9)


@pytest.mark.parametrize(("change", "message"), RESUMED)
def test_an_invalid_training_state_is_refused(tmp_path, change, message):
    config, _, values = trained()
    with pytest.raises(LabError, match=message):
        resume(tmp_path, config, {**values, **change})


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
def test_an_optimizer_state_must_fit(tmp_path, kind):
    config, _, values = trained(kind=kind)
    states = values["optimizer"] if kind == "muon" else [values["optimizer"]]
    state = states[-1]["state"][0]
    first = next(key for key in state if key != "step")
    for changed, message in (
        ({999: state}, "unknown parameter"),
        ({0: {"telepathy": torch.ones(3)}}, "expected "),
        ({0: {**state, first: torch.ones(7)}}, f"{first} does not fit"),
        ({0: {**state, first: [1]}}, f"{first} does not fit"),
        ({0: {**state, first: state[first] * math.nan}}, f"{first} is not a number"),
        ({0: 3}, "was written with another optimizer"),
        ({"x": state}, "was written with another optimizer"),
    ):
        wrong = [*states[:-1], {**states[-1], "state": changed}]
        with pytest.raises(LabError, match=message):
            resume(tmp_path, config, {**values, "optimizer": wrong})


def test_optimizer_settings_come_from_the_config(tmp_path):
    config, state, values = trained(kind="sgd")
    group = values["optimizer"]["param_groups"][0]
    group |= {"lr": 1e9, "momentum": -5.0, "foreach": True, "telepathy": "x", "peak_lr": 7.0}
    fresh, messages = resume(tmp_path, config, values)
    assert messages == []
    ours, before = (each.optimizers[0].param_groups[0] for each in (fresh, state))
    assert {**ours, "params": None} == {**before, "params": None}
    assert same(fresh.optimizers[0].state_dict()["state"], state.optimizers[0].state_dict()["state"])


def test_a_negative_average_count_is_refused(tmp_path):
    config, _, values = trained()
    values["average"]["n_averaged"] = torch.tensor(-10)  # the decay divides by 10 more
    with pytest.raises(LabError, match="n_averaged holds a negative value"):
        resume(tmp_path, config, values)
