"""Break each equation of core once and see the tests go red: `python tests/mutations.py [part of a name …]`.

Every mutation is applied to a copy of the package, on which the tests of the equations run, on NumPy alone and without
its accelerated primitives. One that no test notices "SURVIVED": the tests have a hole there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("test_core.py", "test_updates.py", "test_oracles.py")
LEFT_OUT = ("readonly", "strict", "torch", "jax", "cupy", "jit", "scikit", "accelerated")
"""Words in the names of tests that need another library, or the primitives that are switched off."""
NORM, TRAINING, AVERAGING = "batch_norm", "../training/batch_norm", "../training/averaging"
PASSES, TILES, RANKS = (f"../engine/batch_norm_{name}" for name in ("passes", "tiles", "ranks"))
COUPLED_SUMS, COUPLED_CHUNKS = "../engine/batch_norm", "../network/normalized_chunks"
COUPLED = ("test_batch_norm.py", "test_batch_norm_tiles.py")
TESTS_OF = {
    NORM: COUPLED,
    PASSES: (*COUPLED, "test_normalized_vjp.py"),
    TILES: (*COUPLED, "test_normalized_vjp.py"),
    RANKS: ("test_normalized_ranks.py",),
    COUPLED_SUMS: ("test_normalized_ranks.py", "test_normalized_chunks.py"),
    COUPLED_CHUNKS: ("test_normalized_chunks.py",),
    AVERAGING: ("test_averages.py", "test_normalized_runs.py"),
    TRAINING: ("test_batch_norm.py", "test_normalized_runs.py", "test_normalized_ranks.py"),
}
"""What runs for files that those tests don't reach; PyTorch, whose modules are oracles there, is not left out."""


class Mutation(NamedTuple):
    """A text of one of core's files and what to put in its place."""

    name: str
    file: str
    original: str
    replaced: str


NORMALIZED = (
    Mutation("batch norm: sum for mean", NORM, "keepdims=True) / Z.shape[1]\n    dev", "keepdims=True)\n    dev"),
    Mutation("batch norm: variance by m - 1", NORM, "True) / Z.shape[1]\n\n", "True) / (Z.shape[1] - 1)\n\n"),
    Mutation("batch norm: eps outside", NORM, "1.0 / xp.sqrt(variance + EPS)", "1.0 / (xp.sqrt(variance) + EPS)"),
    Mutation("batch norm: no root", NORM, "1.0 / xp.sqrt(variance + EPS)", "1.0 / (variance + EPS)"),
    Mutation("batch norm: mean added", NORM, "(Z - mean) * scale", "(Z + mean) * scale"),
    Mutation("batch norm: no beta", NORM, "return gamma * Z_norm + beta", "return gamma * Z_norm"),
    Mutation("batch norm: gamma and beta swapped", NORM, "gamma * Z_norm + beta\n", "beta * Z_norm + gamma\n"),
    Mutation("batch norm: A for Z in g'", NORM, "A, Z if ACTIVATIONS[g].in_Z else A", "A, A"),
    Mutation("batch norm: no dropout", NORM, "dropout(A_l, masks[l]) if masks else A_l", "A_l"),
    Mutation("batch norm: dgamma is dbeta", NORM, "xp.sum(dZ * Z_norm, axis=1", "xp.sum(dZ, axis=1"),
    Mutation("batch norm backward: no mean", NORM, "(dZ - by_mean - normal", "(dZ - normal"),
    Mutation("batch norm backward: mean's sign", NORM, "(dZ - by_mean - normal", "(dZ + by_mean - normal"),
    Mutation("batch norm backward: no variance", NORM, " - normalized.Z_norm * by_variance)", ")"),
    Mutation("batch norm backward: no gamma", NORM, "return gamma * normalized.scale", "return normalized.scale"),
    Mutation("batch norm backward: another g'", NORM, "backward[hidden[l - 1]](dA", "backward[hidden[-1]](dA"),
    Mutation("batch norm backward: no dropout", NORM, "dA = dropout(dA, masks[l - 1])", "pass"),
    Mutation(
        "batch norm backward: m of weights",
        NORM,
        "columns = layers[l - 1][2], normalized[l - 1], dZ.shape[1]",
        "columns = layers[l - 1][2], normalized[l - 1], m",
    ),
    Mutation("batch norm backward: no 1/m", NORM, "of_beta / m, of_gamma / m", "of_beta, of_gamma"),
    Mutation("batch norm backward: order", NORM, "gradients[::-1], dZ", "gradients, dZ"),
    Mutation("averages: swapped", NORM, "running_mean(average, value, BETA)", "running_mean(value, average, BETA)"),
    Mutation("averages: beta", NORM, "BETA = 0.9\n", "BETA = 0.99\n"),
    Mutation("averages: biased", NORM, "variance * (m / (m - 1))", "variance"),
    Mutation("united: no spread of the means", NORM, " + share * (1 - share) * apart * apart", ""),
    Mutation("united: the other's share", NORM, "mean + share * apart", "mean + (1 - share) * apart"),
    Mutation("united: sign", NORM, "apart = other_mean - mean", "apart = mean - other_mean"),
    Mutation("folded: sign", NORM, "beta - factor * mean", "beta + factor * mean"),
    Mutation("folded: no eps", NORM, "gamma / xp.sqrt(variance + EPS)", "gamma / xp.sqrt(variance)"),
    Mutation("passes: no dropout back", PASSES, 'dropout(dA, V["D"]) if "D" in V else dA', "dA"),
    Mutation(
        "passes: the layer below's",
        PASSES,
        'normalized_by(V, "own_", primitives), **by',
        'normalized_by(V, "", primitives), **by',
    ),
    Mutation("passes: no g[L]'", PASSES, "primitives.mean_backward[network.output](tile.Y, passed.A[-1])", "tile.Y"),
    Mutation("passes: m of weights", TILES, "V / self.columns for V", "V / self.batch.m for V"),
    Mutation(
        "passes: tiles added",
        TILES,
        "Moments(*batch_norm.united(one, other))",
        "Moments(one.columns + other.columns, one.mean + other.mean, one.variance + other.variance)",
    ),
    Mutation("passes: another tile's Z", TILES, '{"Z": self.Z[l - 1][start]', '{"Z": self.Z[l - 1][0]'),
    Mutation("ranks: own columns", RANKS, "self.ranks, self.columns, self.met", "self.ranks, _, self.met"),
    Mutation("ranks and chunks: no 1/m", COUPLED_SUMS, "    g /= m\n", ""),
    Mutation("chunks: own statistics", COUPLED_CHUNKS, "return reduce(united, parts)", "return parts[0]"),
    Mutation("chunks: own sums", COUPLED_CHUNKS, "for V in reduce(add_both, sums)]", "for V in sums[0]]"),
    Mutation("chunks: sums of another layer", COUPLED_CHUNKS, "        below = further\n", ""),
    Mutation(
        "ranks: own statistics",
        RANKS,
        "[one for one in given if one is not None]",
        "[one for one in given if one is not None][:1]",
    ),
    Mutation("average: not corrected", AVERAGING, "return corrected_mean(mean, beta, count) if", "return mean if"),
    Mutation(
        "average: of before", AVERAGING, "running_mean(vectors[-1], theta", "running_mean(vectors[-1], vectors[0]"
    ),
    Mutation("average: another beta", AVERAGING, " * (1 - beta**count) if", " if"),
    Mutation(
        "average: once too few",
        AVERAGING,
        "        self.updates.made(count, own)\n        self.count += count",
        "        self.updates.made(count, own)\n        self.count += count - 1",
    ),
    Mutation(
        "averages: do not move",
        TRAINING,
        "move_averages(descent.statistics, descent.seen",
        "move_averages(descent.statistics, descent.statistics",
    ),
    Mutation(
        "averages: of theta alone", TRAINING, "[theta, descent.statistics]), backend", "[theta, descent.seen]), backend"
    ),
)

MUTATIONS = (
    Mutation("sigmoid: overflows for Z < 0", "activations", "E = xp.exp(-xp.abs(Z))", "E = xp.exp(-Z)"),
    Mutation("sigmoid: branches swapped", "activations", "xp.maximum(xp.astype(Z >= 0,", "xp.maximum(xp.astype(Z < 0,"),
    Mutation("sigmoid': wrong sign", "activations", "A * (1.0 - A)", "A * (1.0 + A)"),
    Mutation("tanh: tan", "activations", "xp.tanh(Z)", "xp.tan(Z)"),
    Mutation("tanh': no square", "activations", "1.0 - A * A", "1.0 - A"),
    Mutation("relu: minimum", "activations", "return xp.maximum(0.0, Z)\n", "return xp.minimum(0.0, Z)\n"),
    Mutation("relu': 1 at 0", "activations", "return xp.astype(A > 0, A.dtype)", "return xp.astype(A >= 0, A.dtype)"),
    Mutation("leaky_relu: slope", "activations", "LEAK = 0.01", "LEAK = 0.1"),
    Mutation("leaky_relu': 1 at 0", "activations", "xp.maximum(xp.astype(A > 0", "xp.maximum(xp.astype(A >= 0"),
    Mutation("identity': A", "activations", "xp.ones_like(A)", "A"),
    Mutation("silu: sigmoid", "activations", "return Z * sigmoid(Z, xp=xp)", "return sigmoid(Z, xp=xp)"),
    Mutation("silu': S for 1 - S", "activations", "(1.0 + Z * sigmoid(-Z, xp=xp))", "(1.0 + Z * sigmoid(Z, xp=xp))"),
    Mutation("softplus: overflows", "activations", "xp.log1p(xp.exp(-xp.abs(Z)))", "xp.log1p(xp.exp(-Z))"),
    Mutation("elu: no expm1", "activations", " + xp.expm1(xp.minimum(Z, 0.0))\n", " + xp.minimum(Z, 0.0)\n"),
    Mutation("elu': 1 below 0", "activations", "return xp.exp(xp.minimum(Z, 0.0))", "return xp.exp(Z)"),
    Mutation("selu: alpha above 0", "activations", "(1.0 - positive) * ALPHA", "ALPHA"),
    Mutation("gelu: tail's sign", "activations", "xp.maximum(Z, 0.0) - U *", "xp.maximum(Z, 0.0) + U *"),
    Mutation("gelu': no density", "activations", " + Z * (E / sqrt(2 * pi))", ""),
    Mutation("gelu_tanh: cube", "activations", "0.044715 * B * B * B), xp=xp)", "0.044715 * B * B), xp=xp)"),
    Mutation("bell: square not exact", "activations", "0.125 * xp.floor(8.0 * U)", "0.125 * (8.0 * U) * (1 + 1e-9)"),
    Mutation("mills: a coefficient", "activations", "140.80284062995275", "140.80284082995275"),
    Mutation("loss: summed over examples", "outputs", "xp.sum(V, axis=0", "xp.sum(V, axis=1"),
    Mutation("sigmoid loss: 1+Y", "outputs", "(1.0 - Y) * xp.maximum(Z, 0.0)", "(1.0 + Y) * xp.maximum(Z, 0.0)"),
    Mutation("sigmoid loss: sign of ZY", "outputs", "Y * xp.maximum(0.0, -Z)", "Y * xp.maximum(0.0, Z)"),
    Mutation("sigmoid loss: no |Z|", "outputs", "xp.log1p(xp.exp(-xp.abs(Z)))", "xp.log1p(xp.exp(-Z))"),
    Mutation("sigmoid loss: log of 1 + E", "outputs", "xp.log1p(xp.exp(", "xp.log(1.0 + xp.exp("),
    Mutation("softmax: overflows", "outputs", "xp.exp(Z - xp.max(Z, axis=0, keepdims=True))", "xp.exp(Z)"),
    Mutation("softmax: largest of all", "outputs", "(Z - xp.max(Z, axis=0, keepdims=True))", "(Z - xp.max(Z))"),
    Mutation("softmax: over all examples", "outputs", "E / over_units(E, xp=xp)", "E / xp.sum(E)"),
    Mutation("softmax loss: overflows", "outputs", "    Z = Z - xp.max(Z, axis=0, keepdims=True)\n", ""),
    Mutation("softmax loss: sign", "outputs", "- over_units(Z * Y, xp=xp)", "+ over_units(Z * Y, xp=xp)"),
    Mutation("identity loss: no half", "outputs", "0.5 * (Z - Y) * (Z - Y)", "(Z - Y) * (Z - Y)"),
    Mutation("exp loss: Y alone", "outputs", "xp.exp(Z) - Z * Y", "xp.exp(Z) - Y"),
    Mutation("sigmoid dZ: no g'", "outputs", "return dA * sigmoid_prime(A, xp=xp)", "return dA"),
    Mutation("softmax dZ: diagonal alone", "outputs", "A * (dA - over_units(A * dA, xp=xp))", "A * (1.0 - A) * dA"),
    Mutation("identity dZ: A", "outputs", "    return dA\n", "    return A\n"),
    Mutation("exp dZ: no A", "outputs", "    return dA * A\n", "    return dA\n"),
    Mutation("dZ[L]: sign", "outputs", "return A - Y", "return Y - A"),
    Mutation("Z: no b", "layers", "W @ A_prev + b", "W @ A_prev"),
    Mutation("dW: no 1/m", "layers", "dZ @ A_prev.T / m", "dZ @ A_prev.T"),
    Mutation("dW: transposed", "layers", "dZ @ A_prev.T / m", "A_prev @ dZ.T / m"),
    Mutation("db: no 1/m", "layers", "xp.sum(dZ, axis=1, keepdims=True) / m", "xp.sum(dZ, axis=1, keepdims=True)"),
    Mutation("db: no sum", "layers", "xp.sum(dZ, axis=1, keepdims=True) / m", "dZ / m"),
    Mutation("db: no keepdims", "layers", "xp.sum(dZ, axis=1, keepdims=True) / m", "xp.sum(dZ, axis=1) / m"),
    Mutation("dA_prev: no transpose", "layers", "W.T @ dZ", "W @ dZ"),
    Mutation("dZ: no g'", "layers", "dA * activation.g_prime(cached, xp=xp)", "dA"),
    Mutation("dZ: g' of dA", "layers", "activation.g_prime(cached, xp=xp)", "activation.g_prime(dA, xp=xp)"),
    Mutation("forward: one g for all layers", "propagation", "hidden[l]](Z)", "hidden[0]](Z)"),
    Mutation("forward: no dropout", "propagation", "dropout(A_l, masks[l]) if masks else A_l", "A_l"),
    Mutation("cost: no 1/m", "propagation", "weights * loss) / m", "weights * loss)"),
    Mutation("cost: no weights", "propagation", "loss if weights is None else weights * loss", "loss"),
    Mutation("backward: no weights", "../engine/equations", "else tile.weights * dZ", "else dZ"),
    Mutation("backward: dW[L] from A[L]", "propagation", "(dZ, A[-2], m=m)", "(dZ, A[-1], m=m)"),
    Mutation("backward: W[l] for W[l+1]", "propagation", "W, _ = layers[l]", "W, _ = layers[l - 1]"),
    Mutation("backward: one g' for all layers", "propagation", "[hidden[l - 1]](dA", "[hidden[-1]](dA"),
    Mutation("backward: no dropout", "propagation", "dA = dropout(dA, masks[l - 1])", "pass"),
    Mutation("backward: another layer's mask", "propagation", "dropout(dA, masks[l - 1])", "dropout(dA, masks[-1])"),
    Mutation("forward: A cached for what is in Z", "propagation", "Z if ACTIVATIONS[hidden[l]].in_Z else A_l", "A_l"),
    Mutation("backward: g' of A after dropout", "propagation", "passed.cached[l - 1]", "A[l]"),
    Mutation("backward: dW[l] from A[l]", "propagation", "(dZ, A[l - 1], m=m)", "(dZ, A[l], m=m)"),
    Mutation("backward: order", "propagation", "gradients[::-1]", "gradients"),
    Mutation("l2 cost: no half", "regularization", "l2 / (2 * m)", "l2 / m"),
    Mutation("l2 cost: no square", "regularization", "xp.sum(W * W)", "xp.sum(W)"),
    Mutation("l2 cost: biases", "regularization", "xp.sum(W * W) for W, _", "xp.sum(W * W) + xp.sum(b * b) for W, b"),
    Mutation("l2 cost: first layer alone", "regularization", "sum(squares[1:], start=squares[0])", "squares[0]"),
    Mutation("l2 gradient: no 1/m", "regularization", "l2 / m * W", "l2 * W"),
    Mutation("penalized: subtracted", "regularization", "dW + l2_gradient", "dW - l2_gradient"),
    Mutation("l1 cost: signed", "regularization", "xp.sum(xp.abs(W))", "xp.sum(W)"),
    Mutation("l1 cost: halved", "regularization", "l1 / m * sum(", "l1 / (2 * m) * sum("),
    Mutation("l1 gradient: W", "regularization", "return l1 / m * sign", "return l1 / m * W"),
    Mutation("l1 penalized: subtracted", "regularization", "dW + l1_gradient", "dW - l1_gradient"),
    Mutation("dropout: mask twice", "regularization", "return A * D", "return A * D * D"),
    Mutation("join: b before W", "vector", "for V in layer]", "for V in layer[::-1]]"),
    Mutation("split: W transposed", "vector", "[start:middle], (n, n_prev))", "[start:middle], (n_prev, n)).T"),
    Mutation("split: layers overlap", "vector", "        start = end\n", "        start = middle\n"),
    Mutation("size: no biases", "vector", "sum(n * (n_prev + 1)", "sum(n * n_prev"),
    Mutation("small: 0.1", "initial", "lambda n_prev, n: 0.01", "lambda n_prev, n: 0.1"),
    Mutation("he: 1/n", "initial", "sqrt(2 / n_prev)", "sqrt(1 / n_prev)"),
    Mutation("lecun: of two", "initial", "sqrt(1 / n_prev)", "sqrt(2 / n_prev)"),
    Mutation("xavier: n[l-1] twice", "initial", "sqrt(2 / (n_prev + n))", "sqrt(2 / (n_prev + n_prev))"),
    Mutation("initial b: not zero", "initial", "np.zeros((n, 1))", "np.full((n, 1), 0.01)"),
    Mutation("running mean: no 1-beta", "averages", "beta * mean + (1 - beta) * value", "beta * mean + value"),
    Mutation("gradient descent: ascent", "updates", "return theta - alpha * g\n", "return theta + alpha * g\n"),
    Mutation("momentum: g for v", "updates", "theta - alpha * v, v", "theta - alpha * g, v"),
    Mutation("nesterov: momentum", "updates", "alpha * running_mean(v, g, beta), v", "alpha * v, v"),
    Mutation("rmsprop: g for g²", "updates", "running_mean(s, g * g, beta)", "running_mean(s, g, beta)"),
    Mutation("rmsprop: eps in the root", "updates", "(xp.sqrt(s) + eps)", "xp.sqrt(s + eps)"),
    Mutation("corrected mean: beta", "averages", "(1 - beta**t)", "(1 - beta)"),
    Mutation("averages: not corrected", "averages", "yield corrected_mean(mean, beta, t)", "yield mean"),
    Mutation("adam: v not corrected", "updates", "corrected_mean(v, beta1, t)", "v"),
    Mutation("adam: s corrected by beta1", "updates", "corrected_mean(s, beta2, t)", "corrected_mean(s, beta1, t)"),
    Mutation("adam: eps", "updates", "(xp.sqrt(s_corrected) + eps)", "((xp.sqrt(s) + eps) / (1 - beta2**t)**0.5)"),
    Mutation("inverse time: steps", "../training/schedules", "self.decay * t / self.steps", "self.decay * t"),
    Mutation("inverse root: no root", "../training/schedules", "/ sqrt(1 + t / self.steps)", "/ (1 + t / self.steps)"),
    Mutation("inverse root: from 0", "../training/schedules", "(1 + t / self.steps)", "(max(t / self.steps, 1))"),
    Mutation("staircase: of updates", "../training/schedules", "t - t % steps if", "t - t % 2 if"),
    Mutation("exponential: in stairs", "../training/schedules", "(t / self.steps)", "(t // self.steps)"),
    Mutation("step: smooth", "../training/schedules", "(t // self.steps)", "(t / self.steps)"),
    Mutation("cosine: rises", "../training/schedules", "(1 + cos(pi * done))", "(1 - cos(pi * done))"),
    Mutation("cosine: final added", "../training/schedules", "(self.learning_rate - self.final)", "self.learning_rate"),
    Mutation("cosine: comes back", "../training/schedules", "- self.warmup, 1), 1.0)", "- self.warmup, 1), 9.0)"),
    Mutation("warm-up: from 0", "../training/schedules", "(t + 1) / (self.warmup + 1)", "t / self.warmup"),
    *NORMALIZED,
    Mutation("difference: not halved", "checking", "/ (2 * eps)", "/ eps"),
    Mutation("difference: one-sided", "checking", "- J(theta - eps * direction)) / (2 * eps)", "- J(theta)) / eps"),
    Mutation("norm: no root", "checking", "xp.sqrt(xp.sum(g * g))", "xp.sum(g * g)"),
    Mutation("relative difference: by ‖g‖ alone", "checking", "norm(g, xp=xp) + norm(g_hat, xp=xp)", "norm(g, xp=xp)"),
    Mutation("relative difference: of sums", "checking", "norm(g - g_hat, xp=xp)", "norm(g + g_hat, xp=xp)"),
)  # fmt: skip


def mutated(mutation: Mutation) -> str:
    """The file's text with the mutation in it; ValueError unless its original occurs exactly once."""
    source = (ROOT / "nnarray" / "core" / f"{mutation.file}.py").read_text(encoding="utf-8")
    if source.count(mutation.original) != 1:
        raise ValueError(f"{mutation.name}: {mutation.original!r} occurs {source.count(mutation.original)} times")
    return source.replace(mutation.original, mutation.replaced)


RUN_THE_TESTS = """
import sys, pytest, nnarray
sys.exit(pytest.main(sys.argv[2:]) if nnarray.__file__.startswith(sys.argv[1]) else 90)
"""


def run_tests(mutation: Mutation | None) -> subprocess.CompletedProcess[str]:
    """Run the tests on a copy of the package, broken by the mutation or, for comparison, whole."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder).resolve() / "nnarray"
        shutil.copytree(ROOT / "nnarray", package, ignore=shutil.ignore_patterns("__pycache__"))
        if mutation is not None:
            (package / "core" / f"{mutation.file}.py").write_text(mutated(mutation), encoding="utf-8")
        settings = {"PYTHONPATH": str(package.parent), "NNARRAY_PLAIN_STEPS": "1", "OPENBLAS_NUM_THREADS": "1"}
        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
        own = () if mutation is None else TESTS_OF.get(mutation.file, ())
        left_out = [word for word in LEFT_OUT if not (own and word == "torch")]
        options += ["--rootdir", str(ROOT), "-k", " and ".join(f"not {word}" for word in left_out)]
        command = [sys.executable, "-c", RUN_THE_TESTS, str(package.parent), *options]
        command += [str(ROOT / "tests" / name) for name in own or TESTS]
        return subprocess.run(
            command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=False
        )


def outcome(mutation: Mutation) -> str:
    """What happened to the mutation: "caught", "SURVIVED", or why it could not be tried."""
    try:
        done = run_tests(mutation)
    except ValueError as error:
        return f"NOT APPLIED: {error}"
    if done.returncode == 1:
        return "caught"
    return "SURVIVED" if done.returncode == 0 else f"NOT RUN (exit {done.returncode}): {done.stdout[-300:]}"


def main(parts: Sequence[str]) -> int:
    """Try all mutations, or those whose names contain one of the parts; 1 if any was not caught."""
    whole = run_tests(None)
    if whole.returncode != 0:
        print(f"the tests fail on the unbroken package already:\n{whole.stdout[-3000:]}{whole.stderr[-2000:]}")
        return 1
    chosen = [m for m in MUTATIONS if not parts or any(part in m.name for part in parts)]
    began, survivors = time.perf_counter(), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutation, result in zip(chosen, pool.map(outcome, chosen), strict=True):
            survivors += result != "caught"
            print(f"{mutation.file:15} {mutation.name:38} {result}", flush=True)
    seconds = time.perf_counter() - began
    print(f"\n{len(chosen) - survivors} of {len(chosen)} mutations caught in {seconds:.0f} s")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
