"""How it is built: the floors, the path of X through them, and the benchmarks.

## The floors

The page of `nnarray` itself opens with their map. A module imports from its own floor and from lower ones, and no two
files import each other; a test enforces this.

A learner reads `core` alone, a compiler engineer works in `programs`, a performance engineer in `engine` and
`programs.targets`, and neither touches the mathematics.

## The path of X

What `network.gradients(params, X, Y)` does, from the call down to native code and back:

| floor | what happens there | where |
|---|---|---|
| 5 `network` | namespace, device, shapes and dtypes are checked; X is not copied | `network.entry` |
| 4 `engine` | X is cut into tiles of columns, by the sizes of the layers alone | `compute`, `tiling` |
| 4 `engine` | what a tile computes is named, and its program looked up by its shape | `equations`, `compiling` |
| 3 `backends` | a shape that is new gets a program of the library whose arrays these are | `new_program` |
| 2 `programs` | core's functions are called on placeholders, which gives a graph of what they ask for | `trace` |
| 1 `core` | forward, cost and backward: called on placeholders, once per shape | `propagation` |
| 2 `programs` | the graph is rewritten, put in order, given memory | `lowering`, `schedule`, `memory` |
| 2 `programs` | loops are printed as LLVM's code or as CUDA kernels, products as blocks or calls of BLAS | `targets` |
| 4 `engine` | threads call the program with each tile: on a CPU that is one native call | `workers` |
| 2 `programs` | it checks the arrays, fills in their addresses, runs loops and products | `targets.llvm.driver` |
| 4 `engine` | the tiles' sums are added in one fixed tree, divided by m, and penalised | `workers`, `compute` |
| 5 `network` | the gradient comes back as `Parameters`, one vector with W and b as views | `parameters` |

The rows from `new_program` to `targets` are for the first tile of a shape; later ones go straight to the native call.
A batch of one tile, of plain arrays of NumPy, takes the fast path, `engine.native_calls`: one call in which the program
looks at the values, too, and anything unusual takes the general path above, which says what is wrong.

`nn.train` (floor 6) makes one program of a whole step where the backend can: the mini-batch is gathered, its gradient
computed and theta updated in one native call, or on a GPU in one captured CUDA graph (`engine.training_steps`,
`training.timed_steps`); where nothing asks in between, one call makes many steps.

On JAX core's functions run under `jax.jit`. torch's tensors on the CPU are NumPy's to compute, in the same memory
(`engine.numpy_views`), where torch need not see it: nothing is differentiated, and no cost of the caller's own is
called. On other arrays, or those that have no values yet, core's functions run as they stand.

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
