// The types in which a GGUF file stores the numbers of a tensor, and their way back to float.
//
//     const demo::tensor_view& weights = file.tensor("output.weight");
//     std::vector<float> values(weights.elements());
//     demo::dequantize(weights.type, weights.data, values);
//
// A type groups its numbers into blocks: 1 number for F32, F16 and BF16, 32 for Q8_0 and Q4_0, 256 for Q4_K and Q6_K.
// `dequantize` converts whole blocks, so a row, some rows or a whole tensor may be converted at a time:
//
//     std::size_t row_bytes = demo::bytes_of(weights.type, weights.columns());
//     demo::dequantize(weights.type, weights.data.subspan(row * row_bytes, row_bytes), one_row);
//
// Everything here is scalar and portable: it runs once, when a model is loaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace demo {

/// The numbers are those of the file format.
enum class tensor_type : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, q4_k = 12, q6_k = 14, bf16 = 30 };

/// How a tensor type lies in memory.
struct block_layout {
    std::string_view name;  ///< as files and tools write it: "Q4_K"
    std::size_t elements;   ///< numbers in a block
    std::size_t bytes;      ///< bytes of a block
};

[[nodiscard]] const block_layout& layout_of(tensor_type type);

/// Bytes of `elements` numbers, which must be whole blocks.
[[nodiscard]] std::size_t bytes_of(tensor_type type, std::size_t elements);

/// The supported type with this number in the file format, if there is one.
[[nodiscard]] std::optional<tensor_type> supported_tensor_type(std::uint32_t number) noexcept;

/// What ggml calls the type with this number, supported here or not; "unknown" for a number without a name.
[[nodiscard]] std::string_view tensor_type_name(std::uint32_t number) noexcept;

/// "F32, F16, …": for messages that say what would have been accepted.
[[nodiscard]] std::string supported_tensor_types();

[[nodiscard]] float float_from_f16(std::uint16_t half) noexcept;
[[nodiscard]] float float_from_bf16(std::uint16_t half) noexcept;

/// Converts whole blocks; `data` must hold exactly the bytes of `out.size()` numbers, else std::invalid_argument.
void dequantize(tensor_type type, std::span<const std::byte> data, std::span<float> out);

}  // namespace demo
