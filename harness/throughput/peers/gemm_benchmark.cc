// SPDX-License-Identifier: Apache-2.0
//
// Mneme's matrix product beside oneDNN's dnnl_sgemm and OpenBLAS's, on one
// thread and on the shapes of training and attention. Each result is held
// against a float64 product before it is timed. By default nine repetitions of
// all run in random order; the table that ends the output is of their medians.
// Without OPENBLAS_CORETYPE in the environment, and pinned to a core:
//
//   taskset -c 1 ./bazelw run //harness/throughput/peers:gemm_benchmark

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"
#include "attention/tensor/random.h"
#include "attention/tensor/tensor.h"
#include "benchmark/benchmark.h"
#include "harness/throughput/peers/open_blas.h"
#include "oneapi/dnnl/dnnl.h"

namespace mneme::peers {
namespace {

using kernels::MatrixView;
using kernels::Transpose;

constexpr Transpose kNo = Transpose::kNo;
constexpr Transpose kYes = Transpose::kYes;

using Sgemm =
    std::function<absl::Status(Transpose, Transpose, MatrixView<const float>,
                               MatrixView<const float>, MatrixView<float>)>;

absl::Status MnemeSgemm(Transpose transpose_a, Transpose transpose_b,
                        MatrixView<const float> a, MatrixView<const float> b,
                        MatrixView<float> c) {
  kernels::Gemm(transpose_a, transpose_b, a, b, c);
  return absl::OkStatus();
}

absl::Status OneDnnSgemm(Transpose transpose_a, Transpose transpose_b,
                         MatrixView<const float> a, MatrixView<const float> b,
                         MatrixView<float> c) {
  const auto letter = [](Transpose t) { return t == kYes ? 'T' : 'N'; };
  const size_t k = transpose_a == kYes ? a.rows : a.cols;
  const dnnl_status_t status =
      dnnl_sgemm(letter(transpose_a), letter(transpose_b), c.rows, c.cols, k, 1,
                 a.data, a.stride, b.data, b.stride, 0, c.data, c.stride);
  if (status == dnnl_success) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("dnnl_sgemm returns ", status));
}

absl::Status OpenBlasSgemm(Transpose transpose_a, Transpose transpose_b,
                           MatrixView<const float> a, MatrixView<const float> b,
                           MatrixView<float> c) {
  OpenBlasMultiply(transpose_a, transpose_b, a, b, c);
  return absl::OkStatus();
}

const struct {
  const char* name;
  Sgemm sgemm;
} kContenders[] = {{"mneme", MnemeSgemm},
                   {"onednn", OneDnnSgemm},
                   {"openblas", OpenBlasSgemm}};

struct Product {
  int64_t m, n, k;
  Transpose transpose_a = kNo;
  Transpose transpose_b = kNo;

  std::string Name() const {
    return absl::StrCat(m, "x", n, "x", k, "/", transpose_a == kYes ? "T" : "N",
                        transpose_b == kYes ? "T" : "N");
  }
  double Flops() const { return 2.0 * m * n * k; }
};

constexpr Product kProducts[] = {
    // The first three are what libraries are usually compared on.
    {2048, 64, 64},
    {512, 512, 64},
    {1024, 1024, 1024},
    // A layer's projections and its feed-forward part: rows are tokens.
    {4096, 64, 64},
    {4096, 256, 64},
    {4096, 64, 256},
    {2048, 128, 128},
    // Their gradients: of the weights, A^T B, and of the input, A B^T.
    {64, 64, 4096, kYes},
    {64, 256, 4096, kYes},
    {256, 64, 4096, kYes},
    {128, 128, 2048, kYes},
    {4096, 64, 64, kNo, kYes},
    {4096, 64, 256, kNo, kYes},
    {4096, 256, 64, kNo, kYes},
    {2048, 128, 128, kNo, kYes},
    // Attention: queries by keys, weights by values, and its gradient.
    {512, 512, 64, kNo, kYes},
    {512, 64, 512},
    {512, 64, 512, kYes},
    // A chunk of linear attention.
    {64, 64, 64, kNo, kYes},
    {64, 64, 64, kYes},
};

// The arrays of a product, made when it is first run, and who got it right.
class Case {
 public:
  explicit Case(const Product& product) : product_(product) {}

  // Times one contender, once its result has been seen to be right.
  void Run(const std::string& name, const Sgemm& sgemm,
           benchmark::State& state) {
    Prepare();
    auto verdict = verdicts_.find(name);
    if (verdict == verdicts_.end()) {
      verdict = verdicts_.emplace(name, Check(sgemm)).first;
    }
    if (!verdict->second.ok()) {
      state.SkipWithError(std::string(verdict->second.message()).c_str());
      return;
    }
    for ([[maybe_unused]] auto _ : state) {
      benchmark::DoNotOptimize(Multiply(sgemm));
      benchmark::ClobberMemory();
    }
    state.counters["FLOP/s"] = benchmark::Counter(
        product_.Flops(), benchmark::Counter::kIsIterationInvariantRate);
  }

 private:
  void Prepare() {
    if (!c_.empty()) return;
    const auto [m, n, k, transpose_a, transpose_b] = product_;
    a_ = Tensor(DType::kFloat32,
                transpose_a == kYes ? Shape{k, m} : Shape{m, k});
    b_ = Tensor(DType::kFloat32,
                transpose_b == kYes ? Shape{n, k} : Shape{k, n});
    c_ = Tensor(DType::kFloat32, {m, n});
    Random random(/*seed=*/1, /*stream=*/0, /*index=*/0);
    for (const Tensor& x : {a_, b_}) {
      for (int64_t i = 0; i < x.elements(); ++i) {
        x.data<float>()[i] = random.Normal();
      }
    }
    // sum_k |a_ik b_kj| bounds the error beside the sum itself.
    expected_.assign(m * n, 0);
    magnitude_.assign(m * n, 0);
    const auto a = a_.Matrix<float>(), b = b_.Matrix<float>();
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < k; ++l) {
        const double a_il = transpose_a == kYes ? a(l, i) : a(i, l);
        for (int64_t j = 0; j < n; ++j) {
          const double term = a_il * (transpose_b == kYes ? b(j, l) : b(l, j));
          expected_[i * n + j] += term;
          magnitude_[i * n + j] += std::abs(term);
        }
      }
    }
  }

  absl::Status Multiply(const Sgemm& sgemm) {
    return sgemm(product_.transpose_a, product_.transpose_b, a_.Matrix<float>(),
                 b_.Matrix<float>(), c_.Matrix<float>());
  }

  absl::Status Check(const Sgemm& sgemm) {
    constexpr double kTolerance = 1e-6;  // 8 times float32's rounding
    float* const c = c_.data<float>();
    std::fill_n(c, c_.elements(), std::numeric_limits<float>::quiet_NaN());
    if (absl::Status status = Multiply(sgemm); !status.ok()) return status;
    for (size_t i = 0; i < expected_.size(); ++i) {
      if (!(std::abs(c[i] - expected_[i]) <= kTolerance * magnitude_[i])) {
        return absl::InternalError(absl::StrFormat(
            "WRONG: element %d is %g, not %g", i, c[i], expected_[i]));
      }
    }
    return absl::OkStatus();
  }

  const Product product_;
  Tensor a_, b_, c_;
  std::vector<double> expected_, magnitude_;
  std::map<std::string, absl::Status> verdicts_;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half]
                                : (values[half - 1] + values[half]) / 2;
}

// Shows median and variation of repetitions and, at the end, all side by side.
class TableReporter : public benchmark::ConsoleReporter {
 public:
  TableReporter() : ConsoleReporter(OO_Tabular) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> shown;
    for (const Run& run : runs) {
      if (run.error_occurred || run.aggregate_name == "median" ||
          run.aggregate_name == "cv") {
        shown.push_back(run);
      } else if (run.run_type == Run::RT_Iteration) {
        const auto rate = run.counters.find("FLOP/s");
        if (rate == run.counters.end()) continue;
        rates_[run.run_name.function_name].push_back(rate->second);
      }
    }
    ConsoleReporter::ReportRuns(shown);
  }

  void PrintTable() const {
    std::printf("\n%-20s %9s %9s %9s  GFLOP/s, medians\n", "m x n x k", "mneme",
                "onednn", "openblas");
    std::map<std::string, std::vector<double>> logs;
    for (const Product& product : kProducts) {
      std::map<std::string, double> medians;
      std::string row = absl::StrFormat("%-20s", product.Name());
      for (const auto& contender : kContenders) {
        const auto found =
            rates_.find(absl::StrCat(product.Name(), "/", contender.name));
        if (found == rates_.end()) {
          absl::StrAppendFormat(&row, " %9s", "-");
          continue;
        }
        medians[contender.name] = Median(found->second);
        absl::StrAppendFormat(&row, " %9.1f", medians[contender.name] * 1e-9);
      }
      if (medians.empty()) continue;
      std::puts(row.c_str());
      for (const char* peer : {"onednn", "openblas"}) {
        if (medians.count(peer) == 0 || medians.count("mneme") == 0) continue;
        logs[peer].push_back(std::log(medians["mneme"] / medians[peer]));
      }
    }
    std::printf("geometric mean of mneme's share:");
    for (const auto& [peer, values] : logs) {
      double sum = 0;
      for (const double value : values) sum += value;
      std::printf(" %.3f of %s's on %zu shapes;", std::exp(sum / values.size()),
                  peer.c_str(), values.size());
    }
    std::puts("");
  }

 private:
  std::map<std::string, std::vector<double>> rates_;  // of each repetition
};

int Main(int argc, char** argv) {
  if (absl::Status status = CheckOpenBlas(); !status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  omp_set_num_threads(1);
  std::vector<std::string> defaults = {
      "--benchmark_enable_random_interleaving=true",
      "--benchmark_repetitions=9", "--benchmark_min_time=0.1"};
  // What the user says comes later and wins.
  std::vector<char*> arguments = {argv[0]};
  for (std::string& flag : defaults) arguments.push_back(flag.data());
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  int count = arguments.size();
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  for (const Product& product : kProducts) {
    const auto shared = std::make_shared<Case>(product);
    for (const auto& contender : kContenders) {
      benchmark::RegisterBenchmark(
          absl::StrCat(product.Name(), "/", contender.name).c_str(),
          [shared, &contender](benchmark::State& state) {
            shared->Run(contender.name, contender.sgemm, state);
          });
    }
  }
  benchmark::AddCustomContext("openblas_core", OpenBlasCore());
  TableReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.PrintTable();
  return 0;
}

}  // namespace
}  // namespace mneme::peers

int main(int argc, char** argv) { return mneme::peers::Main(argc, argv); }
