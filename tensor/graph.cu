// Records a CUDA graph by stream capture.
#include "tensor/graph.h"

#include "tensor/allocator.h"
#include "tensor/error.h"
#include "tensor/launch.h"

namespace vitrine {

#if VT_CUDA
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

Graph::Graph(Device device, const std::function<void()>& work) : recording_(std::make_unique<Recording>(device)) {
  VT_CHECK(device.is_cuda(), "graph: device is {}, expected a CUDA device", to_string(device));
  recording_->pool.open();
  CUDA_CHECK(cudaStreamBeginCapture(recording_->stream, cudaStreamCaptureModeRelaxed));
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(recording_->stream, &graph);
    if (graph) (void)cudaGraphDestroy(graph);
    recording_->pool.close();
    throw;
  }
  recording_->pool.close();
  CUDA_CHECK(cudaStreamEndCapture(recording_->stream, &graph));
  CUDA_CHECK(cudaGraphInstantiate(&recording_->executable, graph, 0));
  CUDA_CHECK(cudaGraphDestroy(graph));
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
