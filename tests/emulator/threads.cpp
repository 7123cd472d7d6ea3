// A block's threads, each on a stack of its own, changing at barriers and where a warp exchanges values.
#include "threads.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

extern "C" {
Index emulator_thread, emulator_block, emulator_threads, emulator_blocks;
char emulator_exchange[1024][16];
alignas(64) char emulator_shared[49152];

// Keeps the registers that a call keeps and the stack's top in *from, and goes on with the stack `to`.
void emulator_change_stack(void** from, void* to);
}

asm(R"(
.text
.globl emulator_change_stack
.type emulator_change_stack, @function
emulator_change_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

namespace {

const size_t STACK = 128 << 10;
const int WARP = 32;

enum State { READY, AT_BARRIER, IN_EXCHANGE, DONE };

struct Thread {
    char* stack = nullptr;
    void* top = nullptr;
    State state = DONE;
    Index index{};
};

std::vector<Thread> threads;
int current;
void* scheduler;
void (*call)(void**);
void** arguments_of_call;

void pause(State state) {
    threads[current].state = state;
    emulator_change_stack(&threads[current].top, scheduler);
}

void begin() {
    call(arguments_of_call);
    pause(DONE);
    abort();
}

void prepare(Thread& thread) {
    if (!thread.stack)
        thread.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void** top = (void**)(thread.stack + STACK - 64);
    *--top = nullptr;  // the stack is aligned as after a call
    *--top = (void*)begin;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    thread.top = top;
    thread.state = READY;
}

int count(int first, int last, State state) {
    int found = 0;
    for (int i = first; i < last; i++) found += threads[i].state == state;
    return found;
}

void release(int first, int last, State state) {
    for (int i = first; i < last; i++)
        if (threads[i].state == state) threads[i].state = READY;
}

void fail(const char* what) {
    fprintf(stderr, "emulator: %s\n", what);
    abort();
}

void run_block(int size) {
    if ((int)threads.size() < size) threads.resize(size);
    for (int i = 0; i < size; i++) {
        prepare(threads[i]);
        threads[i].index = {i % emulator_threads.x, i / emulator_threads.x % emulator_threads.y,
                            i / emulator_threads.x / emulator_threads.y};
    }
    while (true) {
        for (current = 0; current < size; current++) {
            if (threads[current].state != READY) continue;
            emulator_thread = threads[current].index;
            emulator_change_stack(&scheduler, threads[current].top);
        }
        int done = count(0, size, DONE);
        if (done == size) return;
        if (done + count(0, size, AT_BARRIER) == size) {
            release(0, size, AT_BARRIER);
            continue;
        }
        bool some_go_on = false;
        for (int first = 0; first < size; first += WARP) {
            int last = first + WARP < size ? first + WARP : size;
            int waiting = count(first, last, IN_EXCHANGE);
            if (!waiting) continue;
            if (last - first < WARP || count(first, last, DONE)) fail("a warp exchanges values with lanes missing");
            if (waiting < WARP) continue;
            release(first, last, IN_EXCHANGE);
            some_go_on = true;
        }
        if (!some_go_on) fail("threads wait for each other at different places");
    }
}

}  // namespace

extern "C" {
int emulator_lane() { return current; }
void emulator_barrier() { pause(AT_BARRIER); }
void emulator_warp_barrier() { pause(IN_EXCHANGE); }
}

void run_grid(Index blocks, Index size, void (*kernel)(void**), void** arguments, bool threads_meet) {
    emulator_blocks = blocks, emulator_threads = size;
    call = kernel, arguments_of_call = arguments;
    for (unsigned z = 0; z < blocks.z; z++)
        for (unsigned y = 0; y < blocks.y; y++)
            for (unsigned x = 0; x < blocks.x; x++) {
                emulator_block = {x, y, z};
                int count = size.x * size.y * size.z;
                if (threads_meet) run_block(count);
                for (int i = 0; i < count && !threads_meet; i++) {
                    emulator_thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
                    kernel(arguments);
                }
            }
}
