"""How it is built: the floors, the way of X through them, and the benchmarks.

## The floors

A module imports from its own floor and from lower ones, and no two files import each other; a test holds them to it.

| floor | folder | what is there |
|---|---|---|
| 0 | `storage` | files, written whole or not at all and read with suspicion; imports nothing of the others |
| 1 | `core` | the lecture: pure functions of arrays of any namespace |
| 2 | `programs` | what core asks for, traced once per shape, scheduled and compiled |
| 3 | `backends` | a file per array library and what it can; devices, dtypes, BLAS' threads |
| 4 | `engine` | how much at once: tiles, partial sums, threads, the programs of each shape |
| 5 | `network` | `Network`, `Parameters`, and the checks of what a caller gives |
| 6 | `training` | the loop, mini-batches, optimisers, schedules, history, stopping |
| 7 | the faces | `files`, `onnx`, `bridges`, `sklearn`, `plots`, `examples`, `guide`, `cli` |

A learner reads `core` alone, a compiler engineer works in `programs`, a performance engineer in `engine` and
`programs.targets`, and neither touches the mathematics.

## The way of X

1. `network.gradients(params, X, Y)` finds the namespace and device of the arrays, checks shapes and dtypes, and does
   not copy X (`network.entry`).
2. `engine.cost_and_gradients` cuts the columns into tiles, by the sizes of the layers alone (`engine.tiling`).
3. For the shape of a tile there is a program, or it is made now: core's forward, cost and backward are called once on
   placeholders (`programs.trace`); the graph that comes of it is rewritten (`lowering`), put in order as products and
   fused loops (`schedule`), given memory (`memory`), and printed by a target (`targets`).
4. Threads run it tile by tile (`engine.workers`), and partial sums are added in one fixed tree.
5. The gradient comes back as `Parameters`, one vector with its W and b as views.

On namespaces that compile what they are called with themselves, such as JAX, and on arrays that have no values yet,
core's functions run as they stand.

## What holds it

Every program is held to an interpreter of the same plan and to core's own functions; core to the lecture's plain
loops, to torch's and JAX's autodiff and to central differences; `nox -s mutations` breaks each equation once and
expects the tests to notice.

## Benchmarks

`python -m bench` times every backend and peer in one run, in turn, after all of them computed the same gradient, and
prints the ratios; `python -m bench.estimators` the estimators beside scikit-learn's; `python -m bench.sweep` other
tile widths; `python -m bench.gpu` tests and figures on a machine with a GPU. The tables of the README are made from
their JSON.
"""
