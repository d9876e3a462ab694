// Records a CUDA graph by stream capture.
#include "tensor/device/graph.h"

#include <type_traits>

#include "tensor/device/allocator.h"
#include "tensor/device/launch.h"
#include "tensor/error.h"

namespace vitrine {

#if VT_CUDA
namespace {

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const { (void)cudaGraphDestroy(graph); }
};
using OwnedGraph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyGraph>;

/// Records the operations that `work` queues on the stream, without running them. `work` may throw.
OwnedGraph capture(cudaStream_t stream, const std::function<void()>& work) {
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(stream, &graph);
    if (graph) (void)cudaGraphDestroy(graph);
    throw;
  }
  CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  return OwnedGraph(graph);
}

}  // namespace

struct Graph::Recording {
  explicit Recording(Device device) : pool(device), stream(current_stream()) {}
  ~Recording() {
    // The last replay may still be running in the pool's memory.
    if (executable) (void)cudaStreamSynchronize(stream), (void)cudaGraphExecDestroy(executable);
  }

  MemoryPool pool;
  cudaStream_t stream;
  cudaGraphExec_t executable = nullptr;
};

Graph::Graph(Device device, const std::function<void()>& work) {
  VT_CHECK(device.is_cuda(), "graph: device is {}, expected a CUDA device", to_string(device));
  recording_ = std::make_unique<Recording>(device);
  recording_->pool.open();
  const OwnedGraph graph = capture(recording_->stream, work);
  recording_->pool.close();
  CUDA_CHECK(cudaGraphInstantiate(&recording_->executable, graph.get(), 0));
}

void Graph::replay() { CUDA_CHECK(cudaGraphLaunch(recording_->executable, recording_->stream)); }
#else
struct Graph::Recording {};

Graph::Graph(Device device, const std::function<void()>&) {
  throw Error(fmt::format("graph: device is {}, expected a CUDA device", to_string(device)));
}

void Graph::replay() {}
#endif

Graph::~Graph() = default;

}  // namespace vitrine
