"""The lecture: the equations of a dense network as pure functions over arrays.

Nothing here knows a backend, cuts a batch into tiles or touches a file. The functions take arrays of any Array API
namespace (standard 2024.12) and, where they need more than operators, the namespace itself as the keyword `xp`; none
looks at a value, so all of them run under `jax.jit` and on lazy arrays. (`initial` draws on the host, with NumPy.)
Read the modules in this order: activations, outputs, layers, regularization, propagation, vector, initial, averages,
updates, checking, batch_norm; `primitives` only closes the functions over one `xp`.

Letters and shapes are Andrew Ng's: `X = A[0]` is `(n_x, m)`, one example per column; `W[l]` is `(n[l], n[l-1])`,
`b[l]` is `(n[l], 1)`, `Z[l]` and `A[l]` are `(n[l], m)`. `dV` is the derivative of the cost J with respect to V, except
that `dZ` and `dA` leave out the factor 1/m, which enters once, in `dW` and `db`.
"""
