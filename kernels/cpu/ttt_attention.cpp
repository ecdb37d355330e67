// Tensors to raw pointers, packing buffers, and the parallel loops of training-time-test attention.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "common/threads.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tensor_bits.h"
#include "kernels/cpu/training.h"
#include "kernels/cpu/ttt_attention.h"

namespace aerie::ops::cpu {
namespace {

using namespace aerie::cpu;

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

/// A piece of one document, the unit of a parallel loop.
struct Piece {
  int64_t document, offset;
};

/// The contiguous inputs, their raw view, and how the documents are cut.
struct Plan {
  Tensor q, k, v, rows;
  std::vector<Tensor> steps;
  std::vector<const bf16*> k_steps, v_steps;
  AttentionView view{};
  std::vector<AttentionDocument> documents;
  int64_t longest = 0;  // padded keys or queries of a document

  std::vector<Piece> pieces(int64_t AttentionDocument::*length, int64_t size,
                            bool asked_only) const {
    std::vector<Piece> result;
    for (size_t s = 0; s < documents.size(); ++s) {
      if (asked_only && documents[s].queries == 0) continue;
      for (int64_t at = 0; at < documents[s].*length; at += size)
        result.push_back({static_cast<int64_t>(s), at});
    }
    return result;
  }
};

void cut_documents(Plan& plan, const Tensor& q_start) {
  const Tensor starts = q_start.contiguous();
  const int32_t* start = starts.const_data_ptr<int32_t>();
  const int64_t *row = plan.view.row, count = plan.rows.numel();
  int64_t begin = 0, key_at = 0, query_at = 0;
  for (int64_t s = 0; s + 1 < starts.numel(); ++s) {
    const int64_t end = std::lower_bound(row + begin, row + count, start[s + 1]) - row;
    AttentionDocument document{start[s], start[s + 1] - start[s], key_at, begin, end - begin,
                               query_at};
    plan.documents.push_back(document);
    const int64_t keys = round_up(document.keys, kAttentionChunk),
                  queries = round_up(end - begin, kAttentionChunk);
    plan.longest = std::max({plan.longest, keys, queries});
    key_at += keys, query_at += queries, begin = end;
  }
  plan.view.padded_keys = key_at;
  plan.view.padded_queries = query_at;
}

Plan make_plan(const AttentionInputs& in) {
  Plan plan{in.q.contiguous(),
            in.k.contiguous(),
            in.v.contiguous(),
            in.rows.contiguous(),
            {},
            {},
            {},
            {},
            {}};
  for (size_t s = 0; s < in.k_steps.size(); ++s) {
    plan.steps.push_back(in.k_steps[s].contiguous());
    plan.k_steps.push_back(mutable_bits(plan.steps.back()));
    plan.steps.push_back(in.v_steps[s].contiguous());
    plan.v_steps.push_back(mutable_bits(plan.steps.back()));
  }
  AttentionView& view = plan.view;
  view.q = mutable_bits(plan.q), view.k = mutable_bits(plan.k), view.v = mutable_bits(plan.v);
  view.row = plan.rows.const_data_ptr<int64_t>();
  view.steps = static_cast<int64_t>(in.k_steps.size());
  view.heads = in.q.size(1), view.kv_heads = in.k.size(1), view.d = in.q.size(2);
  view.scale = static_cast<float>(in.scale);
  cut_documents(plan, in.q_start);
  view.window = in.window > 0 ? std::min(in.window, plan.longest) : plan.longest;
  return plan;
}

/// Points the view at the plan's own vectors: after it has come to rest.
AttentionView view_of(const Plan& plan) {
  AttentionView view = plan.view;
  view.k_steps = plan.k_steps.data(), view.v_steps = plan.v_steps.data();
  return view;
}

/// body(document, offset, head) for every piece and head; `work` memory where asked for.
template <typename Body>
void for_pieces(const Plan& plan, const std::vector<Piece>& pieces, int64_t heads,
                const Body& body) {
  const auto total = static_cast<int64_t>(pieces.size()) * heads;
  parallel_for(0, total, 4, [&](int64_t begin, int64_t end) {
    const auto floats =
        static_cast<size_t>(attention_scratch(plan.longest, plan.view.d, plan.view.steps));
    auto* work = static_cast<float*>(scratch(Scratch::kAttention, floats * sizeof(float)));
    for (int64_t i = begin; i < end; ++i) {
      const Piece& piece = pieces[static_cast<size_t>(i / heads)];
      body(plan.documents[static_cast<size_t>(piece.document)], piece.offset, i % heads, work);
    }
  });
}

/// Buffers of the packed copies, freed with the object.
class Packs {
 public:
  bf16* make(int64_t heads, int64_t rows, int64_t d) {
    buffers_.push_back(at::empty({heads * rows * d}, at::kBFloat16));
    return mutable_bits(buffers_.back());
  }
  float* make_f32(int64_t count) {
    buffers_.push_back(at::empty({count}, at::kFloat));
    return buffers_.back().mutable_data_ptr<float>();
  }
  int32_t* make_i32(int64_t count) {
    buffers_.push_back(at::empty({count}, at::kInt));
    return buffers_.back().mutable_data_ptr<int32_t>();
  }

 private:
  std::vector<Tensor> buffers_;
};

std::vector<bf16*> make_like(std::vector<Tensor>& grads, const std::vector<Tensor>& steps) {
  std::vector<bf16*> pointers;
  for (const Tensor& step : steps) {
    grads.push_back(at::empty_like(step, at::MemoryFormat::Contiguous));
    pointers.push_back(mutable_bits(grads.back()));
  }
  return pointers;
}

const AttentionKernels& best_kernels() {
  return best_isa() >= Isa::kAmx ? kAttentionAmx : kAttentionAvx512;
}

}  // namespace

bool ttt_supported(const AttentionInputs& in) {
  return in.q.is_cpu() && in.q.scalar_type() == at::kBFloat16 && best_isa() >= Isa::kAvx512 &&
         in.q.size(2) % 32 == 0 && in.scale > 0 &&
         static_cast<int64_t>(in.k_steps.size()) <= kMaxAttentionSteps;
}

AttentionOutput ttt_forward(const AttentionInputs& in) {
  const Plan plan = make_plan(in);
  const AttentionView view = view_of(plan);
  const AttentionKernels& kernels = best_kernels();
  AttentionOutput result{at::empty_like(plan.q),
                         at::empty({view.heads * in.q.size(0)}, at::kFloat)};
  result.lse = result.lse.view({in.q.size(0), view.heads});
  Packs buffers;
  AttentionPacks packs;
  packs.k_turned = buffers.make(view.kv_heads, view.padded_keys, view.d);
  packs.v_paired = buffers.make(view.kv_heads, view.padded_keys, view.d);
  for_pieces(plan, plan.pieces(&AttentionDocument::keys, kAttentionChunk, true), view.kv_heads,
             [&](const AttentionDocument& document, int64_t at, int64_t head, float*) {
               kernels.pack_keys(view, packs, document, at, head);
             });
  const AttentionForward io{mutable_bits(result.out), result.lse.mutable_data_ptr<float>()};
  for_pieces(plan, plan.pieces(&AttentionDocument::queries, kAttentionTile, true), view.kv_heads,
             [&](const AttentionDocument& document, int64_t at, int64_t head, float* work) {
               kernels.forward(view, packs, io, document, at, head, work);
             });
  return result;
}

AttentionGrads ttt_backward(const AttentionInputs& in, const AttentionOutput& out,
                            const Tensor& d_out) {
  const Plan plan = make_plan(in);
  const AttentionView view = view_of(plan);
  const AttentionKernels& kernels = best_kernels();
  AttentionGrads grads{
      at::empty_like(plan.q), at::empty_like(plan.k), at::empty_like(plan.v), {}, {}};
  const std::vector<bf16*> dk_steps = make_like(grads.k_steps, in.k_steps);
  const std::vector<bf16*> dv_steps = make_like(grads.v_steps, in.v_steps);
  const Tensor d_output = d_out.contiguous();
  const AttentionBackward io{
      mutable_bits(out.out), mutable_bits(d_output), out.lse.const_data_ptr<float>(),
      mutable_bits(grads.q), mutable_bits(grads.k),  mutable_bits(grads.v),
      dk_steps.data(),       dv_steps.data()};
  Packs buffers;
  AttentionPacks packs;
  for (bf16** keys : {&packs.k_turned, &packs.k_paired, &packs.v_turned}) {
    *keys = buffers.make(view.kv_heads, view.padded_keys, view.d);
  }
  for (bf16** queries :
       {&packs.q_turned, &packs.q_paired, &packs.d_out_turned, &packs.d_out_paired}) {
    *queries = buffers.make(view.heads, view.padded_queries, view.d);
  }
  packs.lse = buffers.make_f32(view.heads * view.padded_queries);
  packs.delta = buffers.make_f32(view.heads * view.padded_queries);
  packs.position = buffers.make_i32(view.padded_queries);
  for_pieces(plan, plan.pieces(&AttentionDocument::keys, kAttentionChunk, true), view.kv_heads,
             [&](const AttentionDocument& document, int64_t at, int64_t head, float*) {
               kernels.pack_keys(view, packs, document, at, head);
             });
  for_pieces(plan, plan.pieces(&AttentionDocument::queries, kAttentionChunk, true), view.heads,
             [&](const AttentionDocument& document, int64_t at, int64_t head, float*) {
               kernels.pack_queries(view, packs, io, document, at, head);
             });
  for_pieces(plan, plan.pieces(&AttentionDocument::queries, kAttentionTile, true), view.kv_heads,
             [&](const AttentionDocument& document, int64_t at, int64_t head, float* work) {
               kernels.backward_queries(view, packs, io, document, at, head, work);
             });
  for_pieces(plan, plan.pieces(&AttentionDocument::keys, kAttentionTile, false), view.kv_heads,
             [&](const AttentionDocument& document, int64_t at, int64_t head, float* work) {
               kernels.backward_keys(view, packs, io, document, at, head, work);
             });
  return grads;
}

}  // namespace aerie::ops::cpu
