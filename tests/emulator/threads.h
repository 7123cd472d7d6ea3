// The threads of a kernel's grid.
#pragma once

struct Index {
    unsigned x, y, z;
};

// Calls a kernel for each thread of each block; where its threads meet, those of a block take turns between meetings.
void run_grid(Index blocks, Index threads, void (*kernel)(void**), void** arguments, bool threads_meet);
