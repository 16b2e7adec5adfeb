// SPDX-License-Identifier: Apache-2.0

#include "harness/npy.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "harness/atomic_file.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

// A file from its parts; the length of the header is as it should be.
std::string File(const std::string& header, const std::string& data,
                 int version = 1) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) {
    file += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  }
  return file + header + data;
}

// The bytes of values in memory, which are those of a file.
template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

std::string Error(absl::string_view bytes) {
  const absl::StatusOr<NpyArray> array = ParseNpy(bytes);
  if (array.ok()) return "";
  EXPECT_EQ(array.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(absl::StrContains(array.status().message(), '\n'));
  return std::string(array.status().message());
}

NpyArray Parse(absl::string_view bytes) {
  absl::StatusOr<NpyArray> array = ParseNpy(bytes);
  EXPECT_TRUE(array.ok()) << array.status();
  return array.ok() ? *std::move(array) : NpyArray();
}

// --- Files that NumPy 2.4.6 wrote, by numpy.lib.format.write_array ---

std::string Padded(std::string header, size_t size) {
  header.append(size - header.size() - 1, ' ');
  return header + "\n";
}

// [[1, 2, 3], [4, 5, 6]], float32, C order
std::string NumpyFloats() {
  return "\x93NUMPY" + std::string("\x01\0v\0", 4) +
         Padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
                118) +
         std::string("\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@\0\0\xc0@", 24);
}

// [[1, 2, 3], [4, 5, 6.5]], float64, Fortran order
std::string NumpyFortranDoubles() {
  return "\x93NUMPY" + std::string("\x01\0v\0", 4) +
         Padded("{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }",
                118) +
         std::string(
             "\0\0\0\0\0\0\xf0?\0\0\0\0\0\0\x10@\0\0\0\0\0\0\0@"
             "\0\0\0\0\0\0\x14@"
             "\0\0\0\0\0\0\x08@\0\0\0\0\0\0\x1a@",
             48);
}

TEST(NpyTest, ReadsWhatNumpyWrites) {
  NpyArray array = Parse(NumpyFloats());
  ASSERT_FALSE(array.is_double());
  EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(array.floats(), (std::vector<float>{1, 2, 3, 4, 5, 6}));

  array = Parse(NumpyFortranDoubles());
  ASSERT_TRUE(array.is_double());
  EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(array.doubles(), (std::vector<double>{1, 2, 3, 4, 5, 6.5}));
}

TEST(NpyTest, ReadsEveryVersionOfNumpy) {
  const std::string header =
      Padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 116);
  const std::string data = std::string("\0\0\x80?\0\0\0@", 8);
  for (const int version : {2, 3}) {
    const std::string file =
        absl::StrCat("\x93NUMPY", std::string(1, version),
                     std::string("\0t\0\0\0", 5), header, data);
    const NpyArray array = Parse(file);
    EXPECT_EQ(array.shape, std::vector<int64_t>{2});
    EXPECT_EQ(array.floats(), (std::vector<float>{1, 2}));
  }
}

TEST(NpyTest, WritesWhatNumpyWrites) {
  EXPECT_EQ(*FormatNpy({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6}),
            NumpyFloats());
  const std::string doubles =
      *FormatNpy({2, 3}, std::vector<double>{1, 2, 3, 4, 5, 6.5});
  EXPECT_EQ(
      doubles.substr(0, 128),
      absl::StrReplaceAll(NumpyFloats().substr(0, 128), {{"<f4", "<f8"}}));
}

// --- Shapes and orders ---

TEST(NpyTest, EveryRankComesBack) {
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{},
                                         {1},
                                         {5},
                                         {2, 3},
                                         {0},
                                         {3, 0, 2},
                                         {2, 3, 4},
                                         {1, 2, 1, 3},
                                         {2, 1, 2, 1, 2, 1, 2, 3},
                                         {1000000}}) {
    int64_t elements = 1;
    for (const int64_t length : shape) elements *= length;
    std::vector<float> floats(elements);
    std::iota(floats.begin(), floats.end(), 0.5f);
    std::vector<double> doubles(elements);
    std::iota(doubles.begin(), doubles.end(), 0.1);

    const absl::StatusOr<std::string> float_file = FormatNpy(shape, floats);
    ASSERT_TRUE(float_file.ok()) << float_file.status();
    EXPECT_EQ((float_file->size() - 4 * elements) % 64, 0);
    const NpyArray float_array = Parse(*float_file);
    EXPECT_EQ(float_array.shape, shape);
    EXPECT_EQ(float_array.floats(), floats);

    const absl::StatusOr<std::string> double_file = FormatNpy(shape, doubles);
    ASSERT_TRUE(double_file.ok()) << double_file.status();
    const NpyArray double_array = Parse(*double_file);
    EXPECT_EQ(double_array.shape, shape);
    EXPECT_EQ(double_array.doubles(), doubles);
  }
}

// Element (i, j, k) of a Fortran array is number i + 2 (j + 3 k) of the file.
TEST(NpyTest, FortranOrderIsConverted) {
  std::vector<float> file(24);
  std::iota(file.begin(), file.end(), 0.0f);
  const NpyArray array = Parse(
      File("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 4), }\n",
           Bytes(file)));
  ASSERT_EQ(array.floats().size(), 24);
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) {
        EXPECT_EQ(array.floats()[(i * 3 + j) * 4 + k], i + 2 * (j + 3 * k));
      }
    }
  }
}

TEST(NpyTest, FortranOrderOfScalarsVectorsAndNothing) {
  const auto header = [](const std::string& shape) {
    return "{'descr': '<f4', 'fortran_order': True, 'shape': " + shape +
           ", }\n";
  };
  EXPECT_EQ(Parse(File(header("()"), Bytes<float>({7}))).floats(),
            std::vector<float>{7});
  EXPECT_EQ(Parse(File(header("(2,)"), Bytes<float>({7, 8}))).floats(),
            (std::vector<float>{7, 8}));
  EXPECT_TRUE(Parse(File(header("(2, 0, 3)"), "")).floats().empty());
}

// Bits, not just values: signs of zeros and payloads of NaNs.
TEST(NpyTest, BitsComeBack) {
  const std::vector<double> values = {0.0,
                                      -0.0,
                                      std::numeric_limits<double>::infinity(),
                                      std::numeric_limits<double>::denorm_min(),
                                      std::nan("123"),
                                      -std::nan("0x456")};
  const NpyArray array = Parse(*FormatNpy({6}, values));
  EXPECT_EQ(std::memcmp(array.doubles().data(), values.data(), 48), 0);
}

// --- What is refused ---

TEST(NpyTest, EveryTruncationIsRefused) {
  for (const std::string& file : {NumpyFloats(), NumpyFortranDoubles()}) {
    for (size_t size = 0; size < file.size(); ++size) {
      EXPECT_NE(Error(absl::string_view(file).substr(0, size)), "") << size;
    }
  }
}

// Removing a comma that Python does not need leaves the same array; all other
// changes are refused.
TEST(NpyTest, NoChangeOfAHeaderByteChangesTheArray) {
  for (const std::string& file : {NumpyFloats(), NumpyFortranDoubles()}) {
    const NpyArray original = Parse(file);
    int accepted = 0;
    for (size_t at = 0; at < 128; ++at) {
      for (int change = 1; change < 256; ++change) {
        std::string changed = file;
        changed[at] ^= change;
        if (!Error(changed).empty()) continue;
        ++accepted;
        const NpyArray array = Parse(changed);
        EXPECT_EQ(array.shape, original.shape) << at;
        EXPECT_EQ(array.values, original.values) << at;
      }
    }
    EXPECT_EQ(accepted, 1);
  }
}

TEST(NpyTest, DataMustBeExactlyAsAnnounced) {
  EXPECT_EQ(Error(NumpyFloats() + "x"), "expected 24 bytes of data, found 25");
  EXPECT_EQ(Error(NumpyFloats().substr(0, 150)),
            "expected 24 bytes of data, found 22");
  EXPECT_EQ(Error(File("{'descr': '<f8', 'fortran_order': False, 'shape': (0, "
                       "9), }\n",
                       "x")),
            "expected 0 bytes of data, found 1");
}

TEST(NpyTest, OtherFilesAreRefused) {
  EXPECT_EQ(Error(""), "not a .npy file: it does not start with \\x93NUMPY");
  EXPECT_EQ(Error("PK\x03\x04 an .npz file"),
            "not a .npy file: it does not start with \\x93NUMPY");
  std::string file = NumpyFloats();
  file[6] = 4;
  EXPECT_EQ(Error(file),
            ".npy version 4.0 is not supported, only 1.0, 2.0 and 3.0");
  file[6] = 1;
  file[7] = 1;
  EXPECT_EQ(Error(file),
            ".npy version 1.1 is not supported, only 1.0, 2.0 and 3.0");
}

TEST(NpyTest, OtherElementTypesAreNamed) {
  const auto error = [](const std::string& descr) {
    return Error(File(
        "{'descr': " + descr + ", 'fortran_order': False, 'shape': (1,), }\n",
        std::string(8, '\0')));
  };
  for (const char* descr :
       {">f4", ">f8", "<f2", "<i8", "<c8", "|b1", "|O", ""}) {
    EXPECT_EQ(error(absl::StrCat("'", descr, "'")),
              absl::StrCat("dtype '", descr,
                           "' is not supported, only little-endian float32 "
                           "'<f4' and float64 '<f8'"));
  }
  EXPECT_THAT(error("[('a', '<f8')]"),
              HasSubstr("a structured dtype is not supported"));
  EXPECT_THAT(error("'a\nb'"), HasSubstr("'a\\nb'"));
}

TEST(NpyTest, HugeShapesAreRefusedBeforeAnythingIsAllocated) {
  const auto error = [](const std::string& shape) {
    return Error(File(
        "{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + ", }\n",
        "12345678"));
  };
  EXPECT_EQ(error("(1000000000000,)"),
            "expected 8000000000000 bytes of data, found 8");
  EXPECT_EQ(error("(4611686018427387904, 2)"),
            "shape (4611686018427387904, 2) has more than 2^63 bytes");
  EXPECT_EQ(error("(4294967296, 4294967296, 0)"),
            "shape (4294967296, 4294967296, 0) has more than 2^63 bytes");
  EXPECT_THAT(error("(9223372036854775808,)"), HasSubstr("expected a length"));
  EXPECT_EQ(error("(1, 1, 1, 1, 1, 1, 1, 1, 1)"),
            "arrays of 9 axes are not supported, only up to 8");
  EXPECT_EQ(error("(1, 1, 1, 1, 1, 1, 1, 1)"), "");
  // The header's own length.
  std::string file = File("{}\n", "", 2);
  file[11] = '\x7f';
  EXPECT_THAT(Error(file), HasSubstr("more than the limit of 10000"));
  EXPECT_THAT(Error(NumpyFloats().substr(0, 100)),
              HasSubstr("truncated .npy header: expected 118 bytes, found 90"));
}

TEST(NpyTest, TheDictIsReadStrictly) {
  const auto error = [](const std::string& header) {
    return Error(File(header, Bytes<float>({1, 2})));
  };
  // What Python's own literals allow: order, quotes, spaces, commas.
  for (const char* header :
       {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\n",
        "{'shape':(2,),'fortran_order':True,'descr':'<f4'}   \n",
        " { \"descr\" : \"<f4\" , \"fortran_order\" : False , \"shape\" : ( 2 "
        ", ) , } \n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2,), }\n"}) {
    EXPECT_EQ(error(header), "") << header;
  }
  for (const char* header :
       {"",
        "\n",
        "{",
        "{}\n",
        "[]\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [2]}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (02,)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (+2,)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,,)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,2)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,\n",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}\n",
        "{'descr': '<f4', 'fortran_order': false, 'shape': (2,)}\n",
        "{'descr': <f4, 'fortran_order': False, 'shape': (2,)}\n",
        "{'descr': '<f4\", 'fortran_order': False, 'shape': (2,)}\n",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\n\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)},\n"}) {
    EXPECT_NE(error(header), "") << header;
  }
  EXPECT_EQ(
      error("{'descr': '<f4', 'shape': (2,)}\n"),
      "bad .npy header: one of descr, fortran_order and shape is missing");
  EXPECT_EQ(error("{'descr': '<f4', 'descr': '<f4', 'shape': (2,)}\n"),
            "bad .npy header: the key 'descr' stands there twice");
  EXPECT_EQ(error("{'order': 'C'}\n"),
            "bad .npy header: the key 'order' is unknown");
  EXPECT_EQ(error("{'descr' '<f4'}\n"),
            "bad .npy header: expected ':' at byte 9 of \"{'descr' "
            "'<f4'}\\n\"");
}

TEST(NpyTest, WhatCannotBeWrittenIsRefused) {
  const std::vector<float> values(6);
  EXPECT_EQ(FormatNpy({2, 2}, values).status(),
            absl::InvalidArgumentError(
                "a shape of 4 elements does not fit 6 values"));
  EXPECT_EQ(FormatNpy({-2, -3}, values).status(),
            absl::InvalidArgumentError("shape (-2, -3) has a negative length"));
  EXPECT_FALSE(FormatNpy({6, 1, 1, 1, 1, 1, 1, 1, 1}, values).ok());
}

// --- Files ---

TEST(NpyTest, FilesComeBackAndErrorsNameThem) {
  const std::string path = absl::StrCat(testing::TempDir(), "/npy_test.npy");
  ASSERT_EQ(WriteNpy(path, {3}, std::vector<double>{1, 2, 3}),
            absl::OkStatus());
  const absl::StatusOr<NpyArray> array = ReadNpy(path);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->doubles(), (std::vector<double>{1, 2, 3}));
  ASSERT_EQ(WriteNpy(path, {3}, std::vector<float>{1, 2, 3}), absl::OkStatus());
  EXPECT_FALSE(ReadNpy(path)->is_double());

  EXPECT_EQ(WriteNpy(path, {2}, std::vector<float>{1, 2, 3}).message(),
            path + ": a shape of 2 elements does not fit 3 values");
  EXPECT_TRUE(ReadNpy(path).ok()) << "the old file should still be there";
  ASSERT_EQ(WriteFileAtomically(path, "text"), absl::OkStatus());
  EXPECT_EQ(ReadNpy(path).status().message(),
            path + ": not a .npy file: it does not start with \\x93NUMPY");
  EXPECT_EQ(ReadNpy(path + "x").status().message(),
            "cannot read " + path + "x: No such file or directory");
}

}  // namespace
}  // namespace mneme
