// Reads a GGUF file: the names and values at its head, and the tensors behind them, where they lie in the file.
//
//     const demo::gguf file("model.gguf");                                // throws gguf_error
//     std::uint64_t layers = file.integer("llama.block_count");           // required
//     double base = file.real("llama.rope.freq_base", 10000.0);           // with a default
//     std::vector<std::string_view> tokens = file.strings("tokenizer.ggml.tokens");
//     const demo::tensor_view& weights = file.tensor("output_norm.weight", {2048});
//     const demo::tensor_view* output = file.find_tensor("output.weight");  // null if there is none
//
// The file is mapped, not read: opening a large one costs its head only. Every string_view and span points into the
// mapping and lives as long as the gguf that gave it, moved or not. (A file that another program shortens meanwhile
// ends this one with a bus error: that is how mapped files are.)
//
// Nothing in a file is believed before it is checked: whatever is wrong with it is said in one sentence, a gguf_error
// that names file, field, value and what is supported. A caller that wants more of a value says so in the same words:
//
//     if (layers > 1000) throw file.wrong_value("llama.block_count", "1 to 1000 are supported");
//
// Versions 2 and 3, little-endian, on POSIX.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "dequantize.hpp"

namespace demo {

class gguf_error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// The kinds of metadata values; the numbers are those of the file format.
enum class metadata_type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// A tensor where it lies in the file. `dequantize` turns `data` into floats; it may lie at any address.
struct tensor_view {
    std::string_view name;
    tensor_type type{};
    std::vector<std::uint64_t> shape;  ///< innermost first, as in the file: {columns, rows} for a matrix
    std::span<const std::byte> data;

    [[nodiscard]] std::size_t elements() const noexcept;
    [[nodiscard]] std::size_t columns() const noexcept { return shape.front(); }
    [[nodiscard]] std::size_t rows() const noexcept { return elements() / columns(); }
};

class gguf {
  public:
    explicit gguf(std::filesystem::path path);
    /// A file that lies in memory, which must outlive this object; `name` stands for it in messages.
    gguf(std::span<const std::byte> bytes, std::filesystem::path name);

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return {mapping_.get(), mapping_.get_deleter().size};
    }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes().size(); }

    /// Metadata. Without a default the key is required; a key of another type throws, default or not.
    [[nodiscard]] bool has(std::string_view key) const { return metadata_.contains(key); }
    [[nodiscard]] bool is_array(std::string_view key) const;
    /// Those that begin with `prefix`, in the order of the alphabet.
    [[nodiscard]] std::vector<std::string_view> keys(std::string_view prefix) const;
    [[nodiscard]] std::string_view string(std::string_view key) const;
    [[nodiscard]] std::string_view string(std::string_view key, std::string_view fallback) const;
    [[nodiscard]] std::uint64_t integer(std::string_view key) const;  ///< any integer type, not negative
    [[nodiscard]] std::uint64_t integer(std::string_view key, std::uint64_t fallback) const;
    [[nodiscard]] std::int64_t signed_integer(std::string_view key) const;  ///< any integer type, below 2^63
    [[nodiscard]] double real(std::string_view key) const;                  ///< f32 or f64, finite
    [[nodiscard]] double real(std::string_view key, double fallback) const;
    [[nodiscard]] double number(std::string_view key) const;  ///< any integer or real type
    [[nodiscard]] bool boolean(std::string_view key) const;
    [[nodiscard]] bool boolean(std::string_view key, bool fallback) const;

    /// Arrays, required; ask `has` first where they are not.
    [[nodiscard]] std::vector<std::string_view> strings(std::string_view key) const;
    [[nodiscard]] std::vector<std::int64_t> integers(std::string_view key) const;  ///< of any integer type
    [[nodiscard]] std::vector<float> reals(std::string_view key) const;            ///< f32 or f64, no NaN

    /// Tensors, in the order of the file. The second form of `tensor` also requires a shape, innermost first.
    [[nodiscard]] std::span<const tensor_view> tensors() const noexcept { return tensors_; }
    [[nodiscard]] const tensor_view* find_tensor(std::string_view name) const;
    [[nodiscard]] const tensor_view& tensor(std::string_view name) const;
    [[nodiscard]] const tensor_view& tensor(std::string_view name, std::initializer_list<std::uint64_t> shape) const;

    /// Errors for the caller to throw: "FILE: key 'KEY' is VALUE; EXPECTED", "FILE: PROBLEM".
    [[nodiscard]] gguf_error wrong_value(std::string_view key, std::string_view expected) const;
    [[nodiscard]] gguf_error error(std::string_view problem) const;

  private:
    friend class gguf_parser;

    /// A value where it lies in the file; of an array, `type` is that of its elements.
    struct metadata {
        metadata_type type{};
        bool is_array = false;
        std::uint64_t count = 1;
        const std::byte* data = nullptr;
    };
    struct unmap {
        std::size_t size;
        bool mapped;  // else it is the caller's
        void operator()(const std::byte* address) const noexcept;
    };

    void map();
    [[nodiscard]] const metadata* find(std::string_view key) const;
    [[nodiscard]] const metadata& find_required(std::string_view key, std::string_view expected) const;
    [[nodiscard]] const metadata& find_array(std::string_view key, std::string_view expected) const;
    [[nodiscard]] std::string describe(const metadata& value) const;

    std::filesystem::path path_;
    std::uint32_t version_ = 0;
    std::unique_ptr<const std::byte, unmap> mapping_;
    std::unordered_map<std::string_view, metadata> metadata_;
    std::unordered_map<std::string_view, std::size_t> tensor_indices_;
    std::vector<tensor_view> tensors_;
};

/// Hands out the tensors of a file and remembers them, so that none is ignored in silence.
class tensor_reader {
  public:
    explicit tensor_reader(const gguf& file) : file_(file) {}

    [[nodiscard]] const gguf& file() const noexcept { return file_; }
    [[nodiscard]] const tensor_view& take(std::string_view name, std::initializer_list<std::uint64_t> shape);
    /// Null if there is none.
    [[nodiscard]] const tensor_view* take_optional(std::string_view name, std::initializer_list<std::uint64_t> shape);
    /// Throws if the file has a tensor that nobody took.
    void refuse_rest() const;

  private:
    const gguf& file_;
    std::unordered_set<std::string_view> taken_;
};

/// Throws if a model was split over several files and this one comes after the first `usable` of them.
void refuse_parts(const gguf& file, std::uint64_t usable);

/// A name from a file, fit for a message: in single quotes, unprintable bytes escaped, long ones shortened.
[[nodiscard]] std::string quoted(std::string_view text);

}  // namespace demo
