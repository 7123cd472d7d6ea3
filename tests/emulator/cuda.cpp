// CUDA's runtime and driver on the host, as far as CuPy asks for them.
//
// Work is queued on streams and done as late as CUDA may do it: when something waits for it. So a wait that is missing
// shows in the numbers. Memory is the host's; what CUDA allocates is NaN at first. A copy or product that reaches beyond an
// allocation ends the process, and so does a kernel or product that is given the memory of another device, and a graph
// whose memory was released. `counts` are what tests ask for.
//
// While a stream is captured, whatever waits is refused, in every thread; the thread that captures may besides neither
// allocate nor release, load no module, destroy no graph and queue nothing on the default stream. A card permits some of
// that in CUDA's relaxed mode, but then the memory is not the graph's, and the work is not in it. What was refused
// invalidates the capture, as on a card.
//
// As a null driver it queues nothing: calls are counted, and what is copied to the host is bytes of 1, which are finite
// numbers and true. So the time that remains is the host's.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "threads.h"

namespace {

const int DEVICES = 2;

std::recursive_mutex one_at_a_time;
#define ONE_AT_A_TIME std::lock_guard<std::recursive_mutex> lock(one_at_a_time)

thread_local int device = 0;
bool is_null = false;
std::map<std::string, long> counts;
size_t memory_of_a_device = (size_t)8 << 30;

// Streams and events

using Work = std::function<void()>;
using Places = std::vector<const void*>;

struct Node {
    Work work;
    Places places;
};

struct Capture {
    static inline unsigned long long count = 0;
    const unsigned long long number = ++count;
    std::vector<Node> nodes{};
    bool is_valid = true;
};

struct Stream {
    bool waits_for_default = false;
    Capture* capturing = nullptr;
    std::deque<Work> queue{};
    long queued = 0, done = 0;

    void do_until(long count) {
        while (done < count && !queue.empty()) {
            Work work = std::move(queue.front());
            queue.pop_front();
            done++;
            work();
        }
    }
    void finish() { do_until(queued); }
    void add(Work work) {
        queue.push_back(std::move(work));
        queued++;
    }
    void wait_for(Stream* other) {
        add([other, count = other->queued] { other->do_until(count); });
    }
};

struct Event {
    Stream* stream = nullptr;
    long count = 0;
    bool is_captured = false;
};

struct Graph {
    std::vector<Node> nodes;
    Stream* last = nullptr;
    long count = 0;
};

Stream default_streams[DEVICES];
std::set<Stream*> streams;

Stream* stream_of(void* handle) {
    bool is_default = !handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread;
    return is_default ? &default_streams[device] : (Stream*)handle;
}

// The streams that are captured, and the thread that began each of them.
std::map<Stream*, std::thread::id> captured;

bool is_captured_here() {
    for (auto& [stream, thread] : captured)
        if (thread == std::this_thread::get_id()) return true;
    return false;
}

// Refuse a call while streams are captured: those that this thread captures are invalid then.
cudaError_t refuse(cudaError_t error) {
    counts["refused"]++;
    for (auto& [stream, thread] : captured)
        if (thread == std::this_thread::get_id()) stream->capturing->is_valid = false;
    return error;
}
#define REFUSE_WHERE_CAPTURED_HERE \
    if (is_captured_here()) return refuse(cudaErrorStreamCaptureUnsupported)

// Work on the default stream, which would wait for streams that are not "non-blocking".
bool is_implicit(Stream* stream) {
    if (stream != &default_streams[device]) return false;
    for (auto& [other, thread] : captured)
        if (other->waits_for_default || thread == std::this_thread::get_id()) return true;
    return false;
}

// The default stream and those that are not "non-blocking" wait for each other.
void enqueue(Stream* stream, Work work, Places places = {}) {
    if (is_null) return;
    if (stream->capturing) return stream->capturing->nodes.push_back({std::move(work), std::move(places)});
    Stream* common = &default_streams[device];
    if (stream == common) {
        for (Stream* other : streams)
            if (other->waits_for_default) stream->wait_for(other);
    } else if (stream->waits_for_default) {
        stream->wait_for(common);
    }
    stream->add(std::move(work));
}

void finish_all() {
    for (Stream& stream : default_streams) stream.finish();
    for (Stream* stream : std::set<Stream*>(streams)) stream->finish();
}

cudaStream_t new_stream(unsigned flags) {
    auto stream = new Stream{!(flags & cudaStreamNonBlocking)};
    streams.insert(stream);
    return (cudaStream_t)stream;
}

// Memory

struct Block {
    size_t size;
    int device;
    bool pinned;
};

std::map<const char*, Block> blocks;
size_t used[DEVICES];

const size_t MOST_FILLED = (size_t)1 << 28;

cudaError_t allocate(void** place, size_t size, bool pinned) {
    ONE_AT_A_TIME;
    *place = nullptr;
    REFUSE_WHERE_CAPTURED_HERE;
    if (!pinned && used[device] + size > memory_of_a_device) return cudaErrorMemoryAllocation;
    if (posix_memalign(place, 512, size ? size : 1)) return cudaErrorMemoryAllocation;
    memset(*place, 0xff, std::min(size, MOST_FILLED));
    blocks[(char*)*place] = {size, device, pinned};
    if (!pinned) used[device] += size;
    return cudaSuccess;
}

cudaError_t release(void* place) {
    ONE_AT_A_TIME;
    if (!place) return cudaSuccess;
    REFUSE_WHERE_CAPTURED_HERE;
    auto found = blocks.find((char*)place);
    if (found == blocks.end()) return cudaErrorInvalidValue;
    finish_all();
    const Block& block = found->second;
    if (!block.pinned) used[block.device] -= block.size;
    memset(place, 0xff, std::min(block.size, MOST_FILLED));
    blocks.erase(found);
    free(place);
    return cudaSuccess;
}

// The block that holds an address, and where the block begins; nullptr for memory that CUDA does not know.
const Block* block_of(const void* place, const char** begin = nullptr) {
    auto after = blocks.upper_bound((const char*)place);
    if (after == blocks.begin()) return nullptr;
    auto found = std::prev(after);
    if (begin) *begin = found->first;
    return (const char*)place < found->first + std::max<size_t>(found->second.size, 1) ? &found->second : nullptr;
}

void require_inside(const void* place, size_t size, const char* what) {
    if (!size) return;
    const char* begin;
    const Block* block = block_of(place, &begin);
    if (block && (const char*)place + size <= begin + block->size) return;
    fprintf(stderr, "emulator: %s of %zu bytes at %p is outside of device memory\n", what, size, place);
    abort();
}

// Devices here reach only their own memory, and what is pinned.
void require_here(const void* place, const char* what) {
    const Block* block = block_of(place);
    if (!block || block->pinned || block->device == device) return;
    fprintf(stderr, "emulator: %s on device %d reaches for memory of device %d\n", what, device, block->device);
    abort();
}

void require_there(const Places& places) {
    for (const void* place : places)
        if (!block_of(place)) fprintf(stderr, "emulator: a graph reaches for memory that was released\n"), abort();
}

// Of what a kernel is given, what lies in memory that CUDA knows.
Places known(const Places& places) {
    Places found;
    for (const void* place : places)
        if (block_of(place)) found.push_back(place);
    return found;
}

bool is_pinned(const void* place) {
    const Block* block = block_of(place);
    return block && block->pinned;
}

// From pageable memory a copy has been read, and to it has been written, when the call returns.
cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind, void* handle) {
    ONE_AT_A_TIME;
    bool to_host = kind == cudaMemcpyDeviceToHost, from_host = kind == cudaMemcpyHostToDevice;
    if (!to_host) require_inside(to, size, "copy to");
    if (!from_host) require_inside(from, size, "copy from");
    counts[to_host ? "to host" : from_host ? "to device" : "on device"]++;
    Stream* stream = stream_of(handle);
    if (is_implicit(stream)) return refuse(cudaErrorStreamCaptureImplicit);
    if (stream->capturing && ((to_host && !is_pinned(to)) || (from_host && !is_pinned(from))))
        return refuse(cudaErrorStreamCaptureUnsupported);  // which the host would read or write now, not at each launch
    if (is_null && to_host) return memset(to, 1, size), cudaSuccess;
    const Block *source = block_of(from), *target = block_of(to);
    if (source && target && source->device != target->device) finish_all();  // as default streams do of both devices
    if (from_host && !is_pinned(from)) {
        auto staged = std::make_shared<std::string>((const char*)from, size);
        enqueue(stream, [=] { memcpy(to, staged->data(), size); });
        return cudaSuccess;
    }
    enqueue(stream, [=] { memcpy(to, from, size); }, {to, from});
    if (to_host && !is_pinned(to)) stream->finish();
    return cudaSuccess;
}

// Kernels: a module is a library made of them by the C++ compiler, its image the library's path.

struct Kernel {
    void (*call)(void**);
    std::vector<int> sizes;
    bool threads_meet;
    int device;
};

template <class V>
V* symbol(CUmodule module, const char* prefix, const char* name = "") {
    return (V*)dlsym(module, (std::string(prefix) + name).c_str());
}

}  // namespace

extern "C" {

// What tests and cublas.cpp ask for

long emulator_count(const char* what) { return counts[what]; }
void emulator_reset() { counts.clear(); }
void emulator_null(int null) {
    ONE_AT_A_TIME;
    finish_all();
    is_null = null;
}
void emulator_limit_memory(size_t size) { memory_of_a_device = size; }
void emulator_note(const char* what) { counts[what]++; }
void emulator_require_inside(const void* place, size_t size, const char* what) {
    ONE_AT_A_TIME;
    require_here(place, what);
    require_inside(place, size, what);
}
int emulator_enqueue(void* stream, const void* work, const void* places) {
    ONE_AT_A_TIME;
    if (is_implicit(stream_of(stream))) return refuse(cudaErrorStreamCaptureImplicit);
    enqueue(stream_of(stream), *(const Work*)work, *(const Places*)places);
    return 0;
}
int emulator_is_captured(void* stream) {
    ONE_AT_A_TIME;
    return stream_of(stream)->capturing != nullptr;
}
void emulator_refuse() {
    ONE_AT_A_TIME;
    refuse(cudaErrorStreamCaptureUnsupported);
}

// Devices

cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = DEVICES, cudaSuccess; }
cudaError_t cudaGetDevice(int* current) { return *current = device, cudaSuccess; }
cudaError_t cudaSetDevice(int chosen) {
    if (chosen < 0 || chosen >= DEVICES) return cudaErrorInvalidDevice;
    return device = chosen, cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
        case cudaDevAttrMultiProcessorCount: *value = 132; break;
        default: *value = 0;
    }
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {};
    strcpy(properties->name, "Emulated GPU");
    properties->major = 9;
    properties->warpSize = 32;
    properties->totalGlobalMem = memory_of_a_device;
    properties->maxThreadsPerBlock = properties->maxThreadsDim[0] = 1024;
    properties->sharedMemPerBlock = 49152;
    properties->multiProcessorCount = 132;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
cudaError_t cudaDeviceSynchronize() {
    ONE_AT_A_TIME;
    if (!captured.empty()) return refuse(cudaErrorStreamCaptureUnsupported);
    counts["waits"]++;
    finish_all();
    return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "refused by the emulator";
}

// Memory

cudaError_t cudaMalloc(void** place, size_t size) { return allocate(place, size, false); }
cudaError_t cudaHostAlloc(void** place, size_t size, unsigned) { return allocate(place, size, true); }
cudaError_t cudaFree(void* place) { return release(place); }
cudaError_t cudaFreeHost(void* place) { return release(place); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    ONE_AT_A_TIME;
    *total = memory_of_a_device;
    *free = *total - std::min(used[device], *total);
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* place) {
    ONE_AT_A_TIME;
    const Block* block = block_of(place);
    *attributes = {};
    attributes->type = !block          ? cudaMemoryTypeUnregistered
                       : block->pinned ? cudaMemoryTypeHost
                                       : cudaMemoryTypeDevice;
    attributes->device = block ? block->device : -2;
    attributes->devicePointer = (void*)place;
    attributes->hostPointer = block && block->pinned ? (void*)place : nullptr;
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    ONE_AT_A_TIME;
    cudaError_t error = copy(to, from, size, kind, nullptr);
    default_streams[device].finish();
    return error;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy(to, from, size, kind, stream);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t stream) {
    ONE_AT_A_TIME;
    finish_all();
    return copy(to, from, size, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaMemsetAsync(void* place, int value, size_t size, cudaStream_t stream) {
    ONE_AT_A_TIME;
    require_inside(place, size, "filling");
    if (is_implicit(stream_of(stream))) return refuse(cudaErrorStreamCaptureImplicit);
    counts["fillings"]++;
    enqueue(stream_of(stream), [=] { memset(place, value, size); }, {place});
    return cudaSuccess;
}

// Streams and events

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    ONE_AT_A_TIME;
    return *stream = new_stream(0), cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    ONE_AT_A_TIME;
    return *stream = new_stream(flags), cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {  // events may still know it
    ONE_AT_A_TIME;
    stream_of(stream)->finish();
    streams.erase((Stream*)stream);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    ONE_AT_A_TIME;
    if (stream_of(stream)->capturing) return refuse(cudaErrorStreamCaptureUnsupported);
    if (is_implicit(stream_of(stream))) return refuse(cudaErrorStreamCaptureImplicit);
    counts["waits"]++;
    stream_of(stream)->finish();
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    ONE_AT_A_TIME;
    if (stream_of(stream)->capturing) return refuse(cudaErrorStreamCaptureUnsupported);
    return stream_of(stream)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    ONE_AT_A_TIME;
    Capture* capture = stream_of(handle)->capturing;
    *status = !capture            ? cudaStreamCaptureStatusNone
              : capture->is_valid ? cudaStreamCaptureStatusActive
                                  : cudaStreamCaptureStatusInvalidated;
    return !capture && is_implicit(stream_of(handle)) ? cudaErrorStreamCaptureImplicit : cudaSuccess;
}

// Graphs: what was queued on a captured stream, queued again at each launch with the same arguments

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
    ONE_AT_A_TIME;
    Stream* stream = stream_of(handle);
    if (stream == &default_streams[device]) return cudaErrorStreamCaptureUnsupported;
    if (stream->capturing) return cudaErrorIllegalState;
    captured[stream] = std::this_thread::get_id();
    return stream->capturing = new Capture, cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    ONE_AT_A_TIME;
    Stream* stream = stream_of(handle);
    *graph = nullptr;
    if (!stream->capturing) return cudaErrorIllegalState;
    std::unique_ptr<Capture> capture(stream->capturing);
    captured.erase(stream);
    stream->capturing = nullptr;
    if (!capture->is_valid) return cudaErrorStreamCaptureInvalidated;
    return *graph = (cudaGraph_t) new Graph{std::move(capture->nodes)}, cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
    ONE_AT_A_TIME;
    return *made = (cudaGraphExec_t) new Graph{((Graph*)graph)->nodes}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream) {
    ONE_AT_A_TIME;
    Graph& graph = *(Graph*)handle;
    if (is_implicit(stream_of(stream))) return refuse(cudaErrorStreamCaptureImplicit);
    counts["graphs"]++;
    for (const Node& node : graph.nodes) require_there(node.places), enqueue(stream_of(stream), node.work, node.places);
    graph.last = stream_of(stream), graph.count = graph.last->queued;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    ONE_AT_A_TIME;
    REFUSE_WHERE_CAPTURED_HERE;
    return delete (Graph*)graph, cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
    ONE_AT_A_TIME;
    REFUSE_WHERE_CAPTURED_HERE;
    Graph* graph = (Graph*)handle;
    if (graph->last && graph->last->done < graph->count) return refuse(cudaErrorIllegalState);  // it is under way
    return delete graph, cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned) {
    ONE_AT_A_TIME;
    Event event = *(Event*)handle;
    if (event.is_captured) return refuse(cudaErrorStreamCaptureUnsupported);  // this emulator joins no captures
    if (event.stream && stream_of(stream)->capturing) return refuse(cudaErrorStreamCaptureIsolation);
    if (event.stream) enqueue(stream_of(stream), [=] { event.stream->do_until(event.count); });
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = (cudaEvent_t) new Event, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete (Event*)event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
    ONE_AT_A_TIME;
    Stream* stream = stream_of(handle);
    if (is_implicit(stream)) return refuse(cudaErrorStreamCaptureImplicit);
    *(Event*)event = {stream, stream->queued, stream->capturing != nullptr};
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t handle) {
    ONE_AT_A_TIME;
    Event event = *(Event*)handle;
    if (event.is_captured) return refuse(cudaErrorCapturedEvent);
    return event.stream && event.stream->done < event.count ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
    ONE_AT_A_TIME;
    Event event = *(Event*)handle;
    if (event.is_captured) return refuse(cudaErrorCapturedEvent);
    if (event.stream && event.stream->done < event.count) {
        counts["waits"]++;
        event.stream->do_until(event.count);
    }
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) { return *milliseconds = 1, cudaSuccess; }

// The driver

CUresult cuGetErrorName(CUresult, const char** name) { return *name = "CUDA_ERROR_UNKNOWN", CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult, const char** text) { return *text = "refused by the emulator", CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { return *version = 13000, CUDA_SUCCESS; }
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext* context) { return *context = (CUcontext)(size_t)(device + 1), CUDA_SUCCESS; }
CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* number,
                                   CUgraph*, const CUgraphNode**, size_t*) {
    ONE_AT_A_TIME;
    Capture* capture = stream_of(stream)->capturing;
    *status = capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    if (capture) *number = capture->number;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    ONE_AT_A_TIME;
    if (is_captured_here()) return refuse(cudaErrorStreamCaptureUnsupported), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    *module = (CUmodule)dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
    if (!*module) fprintf(stderr, "emulator: %s\n", dlerror());
    return *module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    auto call = symbol<void(void**)>(module, "emulator_call_", name);
    if (!call) return CUDA_ERROR_NOT_FOUND;
    auto sizes = symbol<int>(module, "emulator_sizes_", name);
    bool threads_meet = *symbol<int>(module, "emulator_threads_meet");
    *function = (CUfunction) new Kernel{call, {sizes + 1, sizes + 1 + *sizes}, threads_meet, device};
    return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute, CUfunction) { return *value = 0, CUDA_SUCCESS; }
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuLaunchKernel(CUfunction function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x,
                        unsigned threads_y, unsigned threads_z, unsigned shared, CUstream stream, void** parameters,
                        void**) {
    ONE_AT_A_TIME;
    const Kernel& kernel = *(Kernel*)function;
    unsigned long threads = (unsigned long)threads_x * threads_y * threads_z;
    bool fits = blocks_x && blocks_x <= 2147483647u && blocks_y && blocks_y <= 65535 && blocks_z && blocks_z <= 65535;
    if (!fits || !threads || threads > 1024 || shared > 49152) return CUDA_ERROR_INVALID_VALUE;
    if (kernel.device != device) return CUDA_ERROR_INVALID_CONTEXT;
    if (is_implicit(stream_of(stream)))
        return refuse(cudaErrorStreamCaptureImplicit), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    counts["launches"]++;
    if (is_null) return CUDA_SUCCESS;
    std::vector<std::string> arguments;
    Places places;
    for (size_t i = 0; i < kernel.sizes.size(); i++) {
        arguments.emplace_back((char*)parameters[i], kernel.sizes[i]);
        for (int at = 0; at + (int)sizeof(void*) <= kernel.sizes[i]; at += sizeof(void*)) {
            places.push_back(*(void**)((char*)parameters[i] + at));  // of a struct, each of its words
            require_here(places.back(), "a kernel");
        }
    }
    enqueue(stream_of(stream), [=]() mutable {
        std::vector<void*> places;
        for (std::string& argument : arguments) places.push_back(argument.data());
        run_grid({blocks_x, blocks_y, blocks_z}, {threads_x, threads_y, threads_z}, kernel.call, places.data(),
                 kernel.threads_meet);
    }, known(places));
    return CUDA_SUCCESS;
}
}
