"""Blocks of memory for the values of a program: a block that nobody needs any more is taken again."""


class Blocks:
    """The blocks of one program, known by number, as its values take them and give them back in turn."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        """bytes of each block, as large as the largest value that it held"""
        self._free: list[int] = []

    def take(self, size: int) -> int:
        """A free block, the smallest that is large enough, else the largest, which grows; a new one if none is free."""
        if not self._free:
            self.sizes.append(size)
            return len(self.sizes) - 1
        block = min(self._free, key=lambda b: (self.sizes[b] < size, abs(self.sizes[b] - size)))
        self._free.remove(block)
        self.sizes[block] = max(self.sizes[block], size)
        return block

    def give_back(self, block: int) -> None:
        """Let the next value have it."""
        self._free.append(block)
