// Attention of new rows to their paged cache: decode, chunks of a prompt, chains and trees under
// verification.
#include "kernels/cuda/attention.cuh"

namespace aerie::cuda {
namespace {

/// Keys in pages; new rows see the context and, among themselves, the causal or tree mask.
struct PagedKeys {
  RaggedAttention args;

  __device__ Chunk chunk(int64_t s) const {
    return {s, args.q_start[s], args.q_start[s + 1] - args.q_start[s], args.kv_len[s]};
  }
  __device__ int64_t offset(const Chunk& chunk, int64_t group, int position) const {
    const int64_t page = args.pages[chunk.index * args.page_columns + position / kPageSize];
    return ((page * args.common.kv_heads + group) * kPageSize + position % kPageSize) *
           args.common.head_dim;
  }
  __device__ int first_visible(const Chunk&, int) const { return 0; }
  __device__ int last_visible(const Chunk& chunk, int row) const {
    return args.tree != nullptr ? chunk.kv_len - 1 : chunk.kv_len - chunk.rows + row;
  }
  __device__ bool visible(const Chunk& chunk, int row, int position) const {
    const int among_new = position - (chunk.kv_len - chunk.rows);
    if (among_new < 0) return true;
    if (args.tree == nullptr) return among_new <= row;
    return among_new < chunk.rows &&
           args.tree[(chunk.index * args.tree_size + row) * args.tree_size + among_new];
  }
  __device__ const void* k() const { return args.k_pages; }
  __device__ const void* v() const { return args.v_pages; }
};

}  // namespace

void ragged_attention(const RaggedAttention& args, Stream stream) {
  attend(PagedKeys{args}, stream);
}

}  // namespace aerie::cuda
