"""A target: machine code for CPUs, compiled by LLVM.

Read in this order: `program` (a graph, ready to be called), `pieces` (how its parts are cut), `columns` (stages that
each column goes through by itself), `bound` (the pieces with their tables, for arrays of one kind), `loops` and
`products` (parts as LLVM IR), `few_terms`, `streamed`, `blocked` and `vectors` (products without BLAS), `operations`
and `mathematics` (what loops compute), `places` (where a part finds its arrays), `code` (IR as text), `compiler`
(llvmlite), `driver` (the function that runs every program), `team` (threads that share the pieces), `training_step`
(many training steps in one call) and `arrays` (NumPy's array objects in memory).

A part's text depends on no network and no size: equal loops of all layers, networks and numbers of examples are one
function, compiled once in a process. What it leaves open is in a table of words that the driver fills in.
"""
