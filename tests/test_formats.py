"""Files whose names promise another format: what is written is said, and what is read instead."""

import warnings

import pytest

import nnarray as nn
from nnarray.cli import main

NETWORK = nn.Network((4, 2, 1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m.pt", "PyTorch is written by torch.save(nn.to_torch(network, params), path)"),
        ("m.PTH", "PyTorch is written by torch.save"),
        ("m.onnx", "ONNX is written by onnx.save(nn.to_onnx(network, params), path), or `nnarray export`"),
        ("m.joblib", "pickle is written by pickle.dump((network, params), file)"),
        ("m.keras", "and not as HDF5 or Keras"),
        ("m.npz", "NumPy is written by numpy.savez(path, theta=params.vector)"),
    ],
)
def test_saving_says_what_is_written_and_writes_it(name, said, tmp_path) -> None:
    params = NETWORK.init(seed=3)
    with pytest.warns(UserWarning, match="is written in the format safetensors, which nn.load reads") as caught:
        nn.save(tmp_path / name, NETWORK, params)
    assert said in str(caught[0].message)
    assert caught[0].filename == __file__
    again, read = nn.load(tmp_path / name)
    assert again == NETWORK
    assert (read.vector == params.vector).all()


@pytest.mark.parametrize("name", ["m.safetensors", "m", "m.bin", "m.model", "v1.2"])
def test_other_names_promise_nothing(name, tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.save(tmp_path / name, NETWORK, NETWORK.init())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m.onnx", "a file of ONNX is read by nn.from_onnx(path)"),
        ("m.pt", "a file of PyTorch is read by nn.from_torch(torch.load(path, weights_only=False))"),
        ("m.h5", "is read by an export of it to ONNX and nn.from_onnx(path)"),
    ],
)
def test_reading_says_what_reads_it(name, said, tmp_path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 of another tool" * 20)
    for read in (nn.load, nn.read_model):
        with pytest.raises(nn.ModelFileError) as caught:
            read(tmp_path / name)
        assert str(caught.value).endswith(said)


@pytest.mark.filterwarnings("default")
def test_the_shell_says_it_in_a_line(tmp_path, capsys) -> None:
    pytest.importorskip("sklearn")
    assert main(["train", "iris", "--epochs", "1", "--quiet", "--out", str(tmp_path / "m.onnx")]) == 0
    assert "nnarray: warning:" in (said := capsys.readouterr().err)
    assert "`nnarray export`" in said
