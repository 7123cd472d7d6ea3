"""On a GPU: what happens on CuPy's arrays.

`nn.backend("cupy").asarray(x)` brings an array to the GPU; whatever is given such arrays computes there. A backend
that was named and cannot run says why, and with which remedy; nothing falls back in silence, but "auto", which takes
CuPy where it works.

What core's functions ask for becomes products by cuBLAS and CUDA kernels: everything between two products is fused into
one kernel, and so is an update. Products of at most 16 rows or 16 terms are part of such a kernel, which holds a column
in the registers of a thread or a warp, and so are db and every small dW, summed in parts of a fixed number: a step of a
small network is two kernels and its update, and one layer reads X once: of more than 1216 rows, up to 12 288 for one
unit or 5120 for two, where there are 1024 examples or more, with each column in the registers of a block. (This has run
on the emulated GPU only. It wants the entries of a column side by side, as in the transpose of a table: an X that lies
by rows, of more than 16 rows, takes the way of large products.) A large product of a hidden layer of relu adds b and
rectifies before it stores, by cuBLASLt, where A is stored: a pass over memory less. (This has run on the emulated GPU
only; `nnarray.backends.cupy` says in `cublaslt` what only a card can tell. Where cuBLASLt has no such product, or b
begins at no multiple of 16 bytes, it is a product and a kernel.) All intermediate arrays live in one preallocated
buffer, and a step never synchronises; training reads its costs when a callback, `patience` or validation asks for them,
else ten times a second at most.

A step of `nn.train` (gather, gradient, update) is captured as one CUDA graph and replayed with one call; what changes
from step to step is read from device memory. The masks of `dropout` are drawn there, too, with the bits that NumPy
draws; with dropped inputs, and with examples that stay on the host, a step is not a graph.

In a loop of your own, `network.gradients`, `cost` and `predict` are replays of a graph from the second call with arrays
of the same layout on; `optimizer.update` is one kernel. A graph reads large X and Y where they lie; theta, small
examples and what comes out are copied into its memory and out of it, on the stream that is current. A few graphs are
kept, and dropped where memory runs out. `l2` and `l1` may be others in each call: a graph reads them from its memory.
On a stream that you capture yourself, the call's work becomes part of your graph: make the call once before, so that
arrays are checked and kernels compiled, and keep what it returned. Calls in one capture of a stream share memory.

The capture of full batches, of masks, of calls in a loop of your own, of the estimators' steps, and of the smaller last
batch of an epoch has run on the emulated GPU only.

`nn.backend("cupy", precision="tf32")`, or "bfloat16" or "float16", sets the precision to which products of float32
round their factors, unless they are part of another kernel, which computes in float32. In bfloat16 and float16, what is
computed for products alone is stored in 2 bytes too: A and dZ, and by the products Z and dA of hidden layers. Z[L],
costs, dW, db and theta are float32, and so is what batch normalisation takes means of. A product that rectifies stores
A in 2 bytes: it adds b, rounded to them as W is, to sums in float32 and rounds once, where a product and a kernel round
Z and A.

X in such a float is read as it is, wherever it is read. `nn.train` and the estimators round theirs once, to a copy that
lives as long as the run (half of X in float32; where it would take more than a quarter of the free memory, each step
rounds what it reads). In a loop of your own, where X may change between two calls, hand it over rounded:

    X = X.astype(ml_dtypes.bfloat16)   # a CuPy array; "float16" for that precision
    J, gradients = network.gradients(params, X, Y)

(This has run on the emulated GPU only. A step of (784, 512, 512, 10) on 60 000 examples reads and writes 1.08 GB, in
place of 2.13 in float32; logistic regression on 1200 inputs half of what it reads in float32.)

Examples are read best column by column, as in the transpose of a table. `nn.train` and the estimators make a copy that
lies so of an X that lies by rows, if it takes no more than a quarter of the free memory. In a loop of your own, such an
X takes the way of large products, in bfloat16 and float16 rounded in its own order: a copy that was kept from call to
call would not show what you write into X in between, so make it yourself, with `cupy.asfortranarray(X)`.

In `nn.train` and in the estimators, an X that would take more than half of the GPU's free memory stays on the host or
in a mapped file, and is uploaded in tiles through pinned memory while the GPU computes on the tile before. Where memory
runs out, tiles are halved.

Without a GPU, all of it runs on an emulated one (`tests/emulator`): CuPy itself, with its arrays, streams, memory
pool, launches and graphs, on a CUDA that runs on the host. Queued work is deferred as long as CUDA permits, so a
missing synchronisation shows; memory has bounds, and a device cannot reach another's. There the tests hold costs,
gradients, predictions, updates and whole runs to NumPy's (1e-12 in float64, 1e-5 in float32) and count launches,
products, copies, graphs and waits. `nnarray check` verifies gradients and agreement with NumPy on a
machine.
"""
