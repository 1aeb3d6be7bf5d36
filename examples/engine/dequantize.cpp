#include "dequantize.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

namespace demo {
namespace {

static_assert(std::endian::native == std::endian::little, "the bytes of the file are used as they lie");

using bytes = const std::byte*;

std::uint16_t load_u16(bytes data) noexcept {
    std::uint16_t value;
    std::memcpy(&value, data, sizeof value);
    return value;
}

float load_f16(bytes data) noexcept { return float_from_f16(load_u16(data)); }

float load_f32(bytes data) noexcept {
    float value;
    std::memcpy(&value, data, sizeof value);
    return value;
}

int load_u8(bytes data) noexcept { return std::to_integer<int>(*data); }

int load_i8(bytes data) noexcept { return static_cast<std::int8_t>(std::to_integer<std::uint8_t>(*data)); }

// Each block function turns one block into its numbers.

void block_f32(bytes block, float* out) noexcept { *out = load_f32(block); }

void block_f16(bytes block, float* out) noexcept { *out = load_f16(block); }

void block_bf16(bytes block, float* out) noexcept { *out = float_from_bf16(load_u16(block)); }

// f16 scale, then 32 signed bytes.
void block_q8_0(bytes block, float* out) noexcept {
    const float scale = load_f16(block);
    for (std::size_t i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(load_i8(block + 2 + i));
}

// f16 scale, then 16 bytes: the low halves are numbers 0 to 15, the high halves 16 to 31, all offset by 8.
void block_q4_0(bytes block, float* out) noexcept {
    const float scale = load_f16(block);
    for (std::size_t i = 0; i < 16; ++i) {
        const int pair = load_u8(block + 2 + i);
        out[i] = scale * static_cast<float>((pair & 15) - 8);
        out[i + 16] = scale * static_cast<float>((pair >> 4) - 8);
    }
}

struct scale_and_minimum {
    int scale;
    int minimum;
};

// Q4_K packs eight 6-bit scales and eight 6-bit minimums into 12 bytes. The first four of each lie in the low six bits
// of bytes 0 to 3 and 4 to 7. The other four have their low four bits in bytes 8 to 11 (scale low, minimum high) and
// their upper two bits in what the first eight bytes left free.
scale_and_minimum unpack_q4_k(bytes packed, std::size_t group) noexcept {
    if (group < 4) return {load_u8(packed + group) & 63, load_u8(packed + group + 4) & 63};
    const int low = load_u8(packed + group + 4);
    return {(low & 15) | (load_u8(packed + group - 4) >> 6 << 4), (low >> 4) | (load_u8(packed + group) >> 6 << 4)};
}

// f16 scale of the scales, f16 scale of the minimums, 12 bytes of them, 128 bytes of numbers. Every 32 bytes hold two
// groups of 32 numbers: the low halves the first group, the high halves the second.
void block_q4_k(bytes block, float* out) noexcept {
    const float scale_unit = load_f16(block);
    const float minimum_unit = load_f16(block + 2);
    for (std::size_t group = 0; group < 8; ++group) {
        const auto [scale, minimum] = unpack_q4_k(block + 4, group);
        const float factor = scale_unit * static_cast<float>(scale);
        const float offset = minimum_unit * static_cast<float>(minimum);
        const bytes quants = block + 16 + group / 2 * 32;
        const int shift = group % 2 == 0 ? 0 : 4;
        for (std::size_t i = 0; i < 32; ++i) {
            out[group * 32 + i] = factor * static_cast<float>((load_u8(quants + i) >> shift) & 15) - offset;
        }
    }
}

// 128 bytes with the low four bits, 64 bytes with the upper two, 16 signed scales (one for 16 numbers), f16 scale of
// the scales. Numbers are offset by 32. Each half of a block has four groups of 32: their low bits lie in the low
// halves of two runs of 32 bytes and then in the high halves, their upper bits side by side in one run of 32 bytes.
void block_q6_k(bytes block, float* out) noexcept {
    const float scale_unit = load_f16(block + 208);
    for (std::size_t group = 0; group < 8; ++group) {
        const std::size_t half = group / 4;
        const std::size_t quarter = group % 4;
        const bytes low = block + half * 64 + quarter % 2 * 32;
        const bytes high = block + 128 + half * 32;
        const int low_shift = quarter < 2 ? 0 : 4;
        const int high_shift = static_cast<int>(quarter) * 2;
        for (std::size_t i = 0; i < 32; ++i) {
            const int scale = load_i8(block + 192 + group * 2 + i / 16);
            const int quant = ((load_u8(low + i) >> low_shift) & 15) | (((load_u8(high + i) >> high_shift) & 3) << 4);
            out[group * 32 + i] = scale_unit * static_cast<float>(scale) * static_cast<float>(quant - 32);
        }
    }
}

struct format {
    tensor_type type;
    block_layout layout;
    void (*convert)(bytes, float*) noexcept;
};

// THE list of what is supported; all else is looked up here.
constexpr std::array<format, 7> formats{{
    {tensor_type::f32, {"F32", 1, 4}, block_f32},
    {tensor_type::f16, {"F16", 1, 2}, block_f16},
    {tensor_type::bf16, {"BF16", 1, 2}, block_bf16},
    {tensor_type::q8_0, {"Q8_0", 32, 34}, block_q8_0},
    {tensor_type::q4_0, {"Q4_0", 32, 18}, block_q4_0},
    {tensor_type::q4_k, {"Q4_K", 256, 144}, block_q4_k},
    {tensor_type::q6_k, {"Q6_K", 256, 210}, block_q6_k},
}};

const format& format_of(tensor_type type) {
    for (const format& each : formats) {
        if (each.type == type) return each;
    }
    throw std::invalid_argument("tensor type " + std::to_string(static_cast<std::uint32_t>(type)) + " is not one of " +
                                supported_tensor_types());
}

}  // namespace

std::optional<tensor_type> supported_tensor_type(std::uint32_t number) noexcept {
    for (const format& each : formats) {
        if (static_cast<std::uint32_t>(each.type) == number) return each.type;
    }
    return std::nullopt;
}

std::string supported_tensor_types() {
    std::string names;
    for (const format& each : formats) names.append(names.empty() ? "" : ", ").append(each.layout.name);
    return names;
}

std::string_view tensor_type_name(std::uint32_t number) noexcept {
    // Removed and never used numbers are blank.
    static constexpr std::array<std::string_view, 41> names{
        "F32",      "F16",    "Q4_0",  "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",     "Q2_K",
        "Q3_K",     "Q4_K",   "Q5_K",  "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL",   "IQ3_S",
        "IQ2_S",    "IQ4_XS", "I8",    "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16",  "Q4_0_4_4", "Q4_0_4_8",
        "Q4_0_8_8", "TQ1_0",  "TQ2_0", "",     "",     "",        "MXFP4",  "NVFP4"};
    return number < names.size() && !names[number].empty() ? names[number] : "unknown";
}

const block_layout& layout_of(tensor_type type) { return format_of(type).layout; }

std::size_t bytes_of(tensor_type type, std::size_t elements) {
    const block_layout& layout = layout_of(type);
    if (elements % layout.elements != 0) {
        throw std::invalid_argument(std::to_string(elements) + " numbers are not whole blocks of " +
                                    std::string(layout.name) + ", which hold " + std::to_string(layout.elements));
    }
    return elements / layout.elements * layout.bytes;
}

float float_from_f16(std::uint16_t half) noexcept {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
    const std::uint32_t exponent = (half >> 10) & 31U;
    const std::uint32_t mantissa = half & 0x3FFU;
    if (exponent == 0) {  // zero and subnormals: multiples of 2^-24, which a float holds exactly
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
    }
    // 31 is infinity and NaN, as 255 is for a float; all else differs in bias: 15 there, 127 here.
    const std::uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;
    return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

float float_from_bf16(std::uint16_t half) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16);
}

void dequantize(tensor_type type, std::span<const std::byte> data, std::span<float> out) {
    const format& chosen = format_of(type);
    const block_layout& layout = chosen.layout;
    if (const std::size_t needed = bytes_of(type, out.size()); data.size() != needed) {
        throw std::invalid_argument("dequantize: " + std::to_string(out.size()) + " numbers of " +
                                    std::string(layout.name) + " take " + std::to_string(needed) + " bytes, given " +
                                    std::to_string(data.size()));
    }
    for (std::size_t block = 0; block < out.size() / layout.elements; ++block) {
        chosen.convert(data.data() + block * layout.bytes, out.data() + block * layout.elements);
    }
}

}  // namespace demo
