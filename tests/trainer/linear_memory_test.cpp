// What a training step holds at its peak grows with the tokens of the pack, not with their square,
// whether they are many documents or one: measured at malloc, so that tensors, the kernels' work
// memory and index lists all count.
#include <ATen/ops/arange.h>
#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <malloc.h>

#include <atomic>

#include "tests/trainer/tiny_draft.h"
#include "trainer/optimizer.h"
#include "trainer/ttt_loss.h"

namespace aerie {
namespace {

constexpr int64_t kVocab = 64, kDraftVocab = 48, kUnroll = 4;

size_t bytes_in_use() {
  const auto info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

/// While it lives, looks at malloc whenever a tensor has been allocated.
class PeakMemory : public c10::Allocator {
 public:
  PeakMemory() : tensors_(c10::GetCPUAllocator()), start_(bytes_in_use()), peak_(start_) {
    c10::SetCPUAllocator(this, 1);
  }
  ~PeakMemory() override { c10::SetCPUAllocator(tensors_, 1); }
  PeakMemory(const PeakMemory&) = delete;
  PeakMemory& operator=(const PeakMemory&) = delete;

  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr memory = tensors_->allocate(bytes);
    const size_t now = bytes_in_use();
    for (size_t seen = peak_; now > seen && !peak_.compare_exchange_weak(seen, now);) {
    }
    return memory;
  }
  c10::DeleterFnPtr raw_deleter() const override { return tensors_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  double beyond_start() const { return static_cast<double>(peak_) - static_cast<double>(start_); }

 private:
  c10::Allocator* tensors_;
  size_t start_;
  std::atomic<size_t> peak_;
};

/// Documents of `length` tokens whose last 60 % are the assistant's.
TrainBatch make_batch(int64_t tokens, int64_t length, int64_t hidden, at::ScalarType dtype) {
  TrainBatch batch;
  batch.tokens = at::randint(kVocab, {tokens}, at::kLong);
  batch.positions = at::arange(tokens).remainder(length);
  batch.q_start = at::arange(0, tokens + 1, length, at::kInt);
  batch.loss_mask = batch.positions.ge(length * 2 / 5);
  batch.captured = at::randn({tokens, 3 * hidden}).to(dtype);
  batch.last_hidden = at::randn({tokens, hidden}).to(dtype);
  return batch;
}

DraftConfig draft_config() {
  DraftConfig config = testing::tiny_draft(32, kVocab, kDraftVocab);
  config.head_dim = 32;  // as the CPU's own attention needs
  config.max_position = 8192;
  return config;
}

struct Case {
  at::ScalarType dtype;
  int64_t length;  ///< of a document; 0: the whole pack
};

class LinearMemory : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const size_t before = bytes_in_use();
    const Tensor seen = at::empty({1 << 20}, at::kByte);
    if (bytes_in_use() < before + seen.nbytes()) GTEST_SKIP() << "this malloc does not count";
  }

  /// Bytes that plan, loss and backward of one pack hold at their peak, and `more` beside them.
  double peak(int64_t tokens, int64_t more = 0) {
    const auto [dtype, length] = GetParam();
    const TrainBatch batch =
        make_batch(tokens, length > 0 ? length : tokens, config_.hidden, dtype);
    const Eagle3Draft draft = Eagle3Draft::trainable(config_, params_, embed_.to(dtype), dtype);
    const ops::LinearWeight head = ops::pack_linear(embed_.to(dtype));
    const PeakMemory memory;
    const Tensor held = at::empty({more}, at::kByte);
    const UnrollPlan plan =
        plan_unroll(batch.tokens, batch.positions, batch.loss_mask, batch.q_start, kUnroll);
    ttt_loss(draft, batch, plan, {&head, &vocab_}, {step_weights(0.8, kUnroll)}).total.backward();
    return memory.beyond_start();
  }

  /// How much more the second doubling of the pack adds than the first: 2 where memory is linear.
  double growth(bool with_mask) {
    const auto of = [&](int64_t tokens) { return peak(tokens, with_mask ? tokens * tokens : 0); };
    of(512);  // what a first step makes and keeps
    const double first = of(512), second = of(1024), third = of(2048);
    EXPECT_GT(second - first, 512 * 4000) << "less than the unroll keeps: nothing was measured";
    return (third - second) / (second - first);
  }

  DraftConfig config_ = draft_config();
  DraftParams params_ = init_draft(config_, {}, 1);
  Optimizer optimizer_{params_, {}};
  Tensor embed_ = at::randn({kVocab, config_.hidden});
  VocabMap vocab_ = make_vocab_map(at::arange(kDraftVocab), kVocab);
};

TEST_P(LinearMemory, TwiceTheTokensTakeTwiceTheMemory) { EXPECT_LT(growth(false), 2.1); }

TEST_P(LinearMemory, AMaskOfAByteForEveryPairOfTokensWouldShow) { EXPECT_GT(growth(true), 2.1); }

INSTANTIATE_TEST_SUITE_P(Packs, LinearMemory,
                         ::testing::Values(Case{at::kBFloat16, 256}, Case{at::kBFloat16, 0},
                                           Case{at::kFloat, 256}),
                         [](const auto& test) {
                           const std::string packed =
                               test.param.length > 0 ? "ManyDocuments" : "OneDocument";
                           return packed + c10::toString(test.param.dtype);
                         });

}  // namespace
}  // namespace aerie
