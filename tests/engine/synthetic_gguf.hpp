// Writes GGUF files for tests: any metadata, tensors of every supported type, and whole random Llama models.
//
//     demo::gguf_writer writer;                                   // version 3; gguf_writer(2) for version 2
//     writer.add("general.architecture", "llama");
//     writer.add("llama.block_count", std::uint32_t{2});          // the C++ type decides the type in the file
//     writer.add_array("scores", std::vector<float>{0.0F, -1.0F});
//     writer.add_tensor("output.weight", demo::tensor_type::q8_0, {64, 512}, values);
//     writer.write(path);
//
//     demo::write_synthetic_llama(path, {.layers = 3, .width = 256, .matrices = demo::tensor_type::q4_k});
//
// The models have random weights: they predict nothing, but every code path that a real one takes is taken, and a
// reference may compute the same numbers from the same file. The same options always give the same file.
// `byte_buffer` puts together files that no writer should write.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "dequantize.hpp"

namespace demo {

/// Little-endian bytes, appended one value after the other.
class byte_buffer {
  public:
    template <class Number>
    requires std::is_arithmetic_v<Number> byte_buffer& put(Number value) {
        std::array<std::byte, sizeof value> copy;
        std::memcpy(copy.data(), &value, sizeof value);
        return put(std::span<const std::byte>(copy));
    }
    byte_buffer& put(std::span<const std::byte> more) {
        bytes_.insert(bytes_.end(), more.begin(), more.end());
        return *this;
    }
    /// The characters alone.
    byte_buffer& put_text(std::string_view text) { return put(std::as_bytes(std::span(text))); }
    /// A string of the format: its length, then its characters.
    byte_buffer& put_string(std::string_view text) { return put(std::uint64_t{text.size()}).put_text(text); }

    byte_buffer& pad_to(std::size_t alignment) {
        bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
        return *this;
    }

    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
    [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

  private:
    std::vector<std::byte> bytes_;
};

inline void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    std::filesystem::remove(path);  // some file systems wait for the disk when a file is cut to nothing and rewritten
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    file.flush();
    if (!file) throw std::runtime_error("cannot write " + path.string());
}

/// The nearest f16; ties go to the even one.
inline std::uint16_t f16_from_float(float value) {
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const auto with_sign = [sign](int bits) { return static_cast<std::uint16_t>(sign | bits); };
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) return with_sign(0x7E00);
    if (magnitude >= 65520.0F) return with_sign(0x7C00);
    if (magnitude < 0x1p-14F) return with_sign(static_cast<int>(std::nearbyint(magnitude * 0x1p24F)));
    int exponent = 0;
    const float fraction = std::frexp(magnitude, &exponent);
    // A fraction that rounds up to 2048 carries into the exponent, which is what it should do.
    return with_sign((exponent + 14) * 1024 + static_cast<int>(std::nearbyint(fraction * 2048.0F)) - 1024);
}

inline std::uint16_t bf16_from_float(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 64U);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

namespace quantizers {

// What a float becomes when it is stored as f16: quantizers divide by this, as the reader will multiply by it.
inline float through_f16(float value) { return float_from_f16(f16_from_float(value)); }

inline int nearest(float value, float unit, int least, int most) {
    if (unit == 0.0F) return std::clamp(0, least, most);
    return std::clamp(static_cast<int>(std::nearbyint(value / unit)), least, most);
}

inline float largest_magnitude(std::span<const float> values) {
    float largest = 0.0F;
    for (const float value : values) largest = std::max(largest, std::fabs(value));
    return largest;
}

inline void q8_0(std::span<const float> values, byte_buffer& out) {
    const float unit = through_f16(largest_magnitude(values) / 127.0F);
    out.put(f16_from_float(unit));
    for (const float value : values) out.put(static_cast<std::int8_t>(nearest(value, unit, -127, 127)));
}

inline void q4_0(std::span<const float> values, byte_buffer& out) {
    // The value of largest magnitude becomes -8, whatever its sign.
    const auto extreme = std::ranges::max_element(values, {}, [](float value) { return std::fabs(value); });
    const float unit = through_f16(*extreme / -8.0F);
    out.put(f16_from_float(unit));
    for (std::size_t i = 0; i < 16; ++i) {
        const int low = nearest(values[i], unit, -8, 7) + 8;
        const int high = nearest(values[i + 16], unit, -8, 7) + 8;
        out.put(static_cast<std::uint8_t>(low | (high << 4)));
    }
}

inline void q4_k(std::span<const float> values, byte_buffer& out) {
    std::array<float, 8> scales{};
    std::array<float, 8> minimums{};
    for (std::size_t group = 0; group < 8; ++group) {
        const auto [least, most] = std::ranges::minmax(values.subspan(group * 32, 32));
        minimums[group] = std::max(0.0F, -least);
        scales[group] = (most + minimums[group]) / 15.0F;
    }
    const float scale_unit = through_f16(std::max(0.0F, std::ranges::max(scales)) / 63.0F);
    const float minimum_unit = through_f16(std::ranges::max(minimums) / 63.0F);
    std::array<int, 8> scale{};
    std::array<int, 8> minimum{};
    std::array<int, 256> quants{};
    for (std::size_t i = 0; i < 256; ++i) {
        const std::size_t group = i / 32;
        scale[group] = nearest(scales[group], scale_unit, 0, 63);
        minimum[group] = nearest(minimums[group], minimum_unit, 0, 63);
        const float offset = minimum_unit * static_cast<float>(minimum[group]);
        quants[i] = nearest(values[i] + offset, scale_unit * static_cast<float>(scale[group]), 0, 15);
    }
    out.put(f16_from_float(scale_unit)).put(f16_from_float(minimum_unit));
    const auto put_byte = [&out](int value) { out.put(static_cast<std::uint8_t>(value)); };
    for (std::size_t i = 0; i < 4; ++i) put_byte(scale[i] | (scale[i + 4] >> 4 << 6));
    for (std::size_t i = 0; i < 4; ++i) put_byte(minimum[i] | (minimum[i + 4] >> 4 << 6));
    for (std::size_t i = 4; i < 8; ++i) put_byte((scale[i] & 15) | ((minimum[i] & 15) << 4));
    for (std::size_t i = 0; i < 128; ++i) {
        const std::size_t low = i / 32 * 64 + i % 32;
        put_byte(quants[low] | (quants[low + 32] << 4));
    }
}

inline void q6_k(std::span<const float> values, byte_buffer& out) {
    std::array<float, 16> scales{};
    for (std::size_t group = 0; group < 16; ++group) {
        scales[group] = largest_magnitude(values.subspan(group * 16, 16)) / 31.0F;
    }
    const float unit = through_f16(std::ranges::max(scales) / 127.0F);
    std::array<int, 16> scale{};
    std::array<int, 256> quants{};
    for (std::size_t i = 0; i < 256; ++i) {
        scale[i / 16] = nearest(scales[i / 16], unit, -128, 127);
        quants[i] = nearest(values[i], unit * static_cast<float>(scale[i / 16]), -32, 31) + 32;
    }
    const auto put_byte = [&out](int value) { out.put(static_cast<std::uint8_t>(value)); };
    for (std::size_t i = 0; i < 128; ++i) {
        const std::size_t low = i / 64 * 128 + i % 64;
        put_byte((quants[low] & 15) | ((quants[low + 64] & 15) << 4));
    }
    for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t first = i / 32 * 128 + i % 32;
        put_byte((quants[first] >> 4) | (quants[first + 32] >> 4 << 2) | (quants[first + 64] >> 4 << 4) |
                 (quants[first + 96] >> 4 << 6));
    }
    for (const int each : scale) out.put(static_cast<std::int8_t>(each));
    out.put(f16_from_float(unit));
}

inline void block(tensor_type type, std::span<const float> values, byte_buffer& out) {
    switch (type) {
        case tensor_type::f32:
            out.put(values.front());
            break;
        case tensor_type::f16:
            out.put(f16_from_float(values.front()));
            break;
        case tensor_type::bf16:
            out.put(bf16_from_float(values.front()));
            break;
        case tensor_type::q8_0:
            q8_0(values, out);
            break;
        case tensor_type::q4_0:
            q4_0(values, out);
            break;
        case tensor_type::q4_k:
            q4_k(values, out);
            break;
        case tensor_type::q6_k:
            q6_k(values, out);
            break;
    }
}

}  // namespace quantizers

/// The bytes of `values`, whole blocks of them; simple and close, not the best that the type allows.
inline std::vector<std::byte> quantize(tensor_type type, std::span<const float> values) {
    const std::size_t step = layout_of(type).elements;
    byte_buffer out;
    for (std::size_t i = 0; i < values.size(); i += step) quantizers::block(type, values.subspan(i, step), out);
    if (out.size() != bytes_of(type, values.size())) throw std::logic_error("a quantizer wrote blocks of another size");
    return out.bytes();
}

/// Collects metadata and tensors, in order, and writes them as a GGUF file.
class gguf_writer {
  public:
    explicit gguf_writer(std::uint32_t version = 3, std::uint32_t alignment = 32)
        : version_(version), alignment_(alignment) {
        if (alignment != 32) add("general.alignment", alignment);
    }

    template <class Number>
    requires std::is_arithmetic_v<Number>
    void add(std::string_view key, Number value) {
        begin_value(key, type_number<Number>());
        metadata_.put(value);
    }
    void add(std::string_view key, std::string_view value) {
        begin_value(key, string_type);
        metadata_.put_string(value);
    }
    template <class Number>
    requires std::is_arithmetic_v<Number>
    void add_array(std::string_view key, const std::vector<Number>& values) {
        begin_value(key, array_type);
        metadata_.put(type_number<Number>()).put(std::uint64_t{values.size()});
        for (const Number value : values) metadata_.put(value);
    }
    void add_array(std::string_view key, const std::vector<std::string>& values) {
        begin_value(key, array_type);
        metadata_.put(string_type).put(std::uint64_t{values.size()});
        for (const std::string& value : values) metadata_.put_string(value);
    }

    /// `shape` is innermost first, as in the file; `values` is row after row.
    void add_tensor(std::string_view name, tensor_type type, const std::vector<std::uint64_t>& shape,
                    std::span<const float> values) {
        if (shape.front() % layout_of(type).elements != 0) {
            throw std::invalid_argument("rows of tensor " + std::string(name) + " are not whole blocks of " +
                                        std::string(layout_of(type).name));
        }
        add_raw_tensor(name, static_cast<std::uint32_t>(type), shape, quantize(type, values));
    }
    /// Whatever the bytes are; nothing is checked.
    void add_raw_tensor(std::string_view name, std::uint32_t type, const std::vector<std::uint64_t>& shape,
                        std::span<const std::byte> bytes) {
        add_raw_tensor_at(data_.size(), name, type, shape);
        data_.put(bytes).pad_to(alignment_);
    }
    /// Only the description of a tensor, which claims to lie at `offset`.
    void add_raw_tensor_at(std::uint64_t offset, std::string_view name, std::uint32_t type,
                           const std::vector<std::uint64_t>& shape) {
        ++tensor_count_;
        tensors_.put_string(name).put(static_cast<std::uint32_t>(shape.size()));
        for (const std::uint64_t dimension : shape) tensors_.put(dimension);
        tensors_.put(type).put(offset);
    }

    [[nodiscard]] std::vector<std::byte> bytes() const {
        byte_buffer file;
        file.put_text("GGUF").put(version_).put(tensor_count_).put(metadata_count_);
        file.put(metadata_.bytes()).put(tensors_.bytes()).pad_to(alignment_).put(data_.bytes());
        return file.bytes();
    }
    void write(const std::filesystem::path& path) const { write_file(path, bytes()); }

  private:
    static constexpr std::uint32_t string_type = 8;
    static constexpr std::uint32_t array_type = 9;

    template <class Number>
    static constexpr std::uint32_t type_number() {
        if constexpr (std::is_same_v<Number, bool>) return 7;
        if constexpr (std::is_same_v<Number, float>) return 6;
        if constexpr (std::is_same_v<Number, double>) return 12;
        if constexpr (std::is_integral_v<Number> && !std::is_same_v<Number, bool>) {
            constexpr std::uint32_t sign = std::is_signed_v<Number> ? 1 : 0;
            constexpr std::uint32_t by_size = sizeof(Number) == 1 ? 0 : sizeof(Number) == 2 ? 2 : 4;
            return (sizeof(Number) == 8 ? 10 : by_size) + sign;
        }
    }

    void begin_value(std::string_view key, std::uint32_t type) {
        ++metadata_count_;
        metadata_.put_string(key).put(type);
    }

    std::uint32_t version_;
    std::uint32_t alignment_;
    std::uint64_t tensor_count_ = 0;
    std::uint64_t metadata_count_ = 0;
    byte_buffer metadata_;
    byte_buffer tensors_;
    byte_buffer data_;
};

/// Numbers that look random and are the same everywhere (splitmix64; the standard library's distributions are not).
class random_numbers {
  public:
    explicit random_numbers(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t mixed = state_ += 0x9E3779B97F4A7C15U;
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9U;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
        return mixed ^ (mixed >> 31);
    }
    std::uint64_t below(std::uint64_t bound) { return next() % bound; }
    double uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
    double normal() { return std::sqrt(-2.0 * std::log(uniform())) * std::cos(2.0 * std::numbers::pi * uniform()); }
    std::vector<float> normals(std::size_t count, double deviation, double mean = 0.0) {
        std::vector<float> values(count);
        for (float& value : values) value = static_cast<float>(mean + deviation * normal());
        return values;
    }

  private:
    std::uint64_t state_;
};

/// A Llama model to write. `matrices` types every matrix; norms and rope_freqs are F32, as everywhere.
struct synthetic_llama {
    std::uint32_t layers = 2;
    std::uint32_t width = 64;
    std::uint32_t heads = 4;
    std::uint32_t kv_heads = 2;
    std::uint32_t head_dim = 16;  ///< other than width / heads: written as key_length, value_length, dimension_count
    std::uint32_t value_dim = 0;  ///< not 0: values of another size than keys
    std::uint32_t feed_forward = 128;
    std::uint32_t vocabulary = 512;
    std::uint32_t context = 256;
    bool tied = false;
    tensor_type matrices = tensor_type::f32;
    float rms_epsilon = 1e-5F;
    float rope_base = 10000.0F;
    float rope_scale = 1.0F;        ///< other than 1: written as linear scaling
    std::string scaling_type = "";  ///< these, where not empty or 0, are written as they are
    float scaling_factor = 0.0F;
    float scale_linear = 0.0F;
    float attn_factor = 0.0F;
    float yarn_beta_fast = 0.0F;
    float yarn_beta_slow = 0.0F;
    std::uint32_t original_context = 0;
    std::uint32_t rope_dimensions = 0;  ///< not 0: written, and may be less than head_dim
    bool rope_freqs = false;            ///< adds rope_freqs.weight
    bool biases = false;                ///< adds a bias to every matrix that may have one
    std::uint32_t sliding_window = 0;   ///< not 0: written
    std::string tokenizer = "llama";    ///< or "gpt2"
    std::string pre = "llama-bpe";      ///< tokenizer.ggml.pre of gpt2; empty: not written
    bool add_bos = true;
    bool add_space_prefix = true;  ///< of llama
    double final_norm = 1;         ///< mean of output_norm.weight; 1e38 gives finite weights and infinite results
    bool vocabulary_only = false;  ///< no tensors
    std::uint32_t version = 3;
    std::uint64_t seed = 1;
    std::vector<std::uint32_t> replaced{};  ///< layer * heads + head; not empty: a recurformer
    std::string cell = "selective";         ///< or "min_gru"
    std::uint32_t expansion = 2;
    std::uint32_t state_size = 3;
    std::uint32_t convolution = 4;
    std::uint32_t delta_rank = 2;
};

namespace synthetic {

enum class token_kind : std::int32_t { normal = 1, unknown = 2, control = 3, byte = 6 };

struct vocabulary {
    std::vector<std::string> tokens;
    std::vector<float> scores;
    std::vector<std::int32_t> kinds;

    void add(std::string token, float score, token_kind kind) {
        tokens.push_back(std::move(token));
        scores.push_back(score);
        kinds.push_back(static_cast<std::int32_t>(kind));
    }
};

using merge = std::pair<std::string, std::string>;

/// `count` different merges, each of parts that are characters or came before; `space` stands for a space.
inline std::vector<merge> merges(std::size_t count, const std::string& space) {
    const std::string s = space;
    std::vector<merge> all{{s, "t"}, {"h", "e"}, {s, "a"},        {"i", "n"},  {s + "t", "he"}, {"e", "r"}, {"o", "n"},
                           {s, "s"}, {s, "w"},   {"r", "e"},      {"a", "n"},  {"n", "d"},      {"a", "t"}, {"o", "u"},
                           {s, "o"}, {s, s},     {s + "a", "nd"}, {"in", "g"}, {"e", "d"},      {"l", "l"}, {"i", "s"}};
    constexpr std::string_view letters = "etaoinshrdlucmfwypvbgkjqxz";
    const auto add = [&all](std::string left, std::string right) {
        const bool known =
            std::ranges::any_of(all, [&](const merge& each) { return each.first + each.second == left + right; });
        if (!known) all.emplace_back(std::move(left), std::move(right));
    };
    for (const char a : letters) {
        for (const char b : letters) add(std::string(1, a), std::string(1, b));
    }
    for (std::size_t i = 0; all.size() < count && i < letters.size(); ++i) {
        for (const char b : letters) {
            for (const char c : letters) add(std::string{letters[i], b}, std::string(1, c));
        }
    }
    if (count > all.size()) throw std::invalid_argument("no vocabulary that large can be made up");
    all.resize(count);
    return all;
}

/// As SentencePiece writes them: specials, bytes, merged pieces by falling score, single characters last.
inline vocabulary llama_vocabulary(std::size_t size) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const std::string space = "\xE2\x96\x81";  // U+2581, which stands for a space
    vocabulary made;
    made.add("<unk>", 0.0F, token_kind::unknown);
    made.add("<s>", 0.0F, token_kind::control);
    made.add("</s>", 0.0F, token_kind::control);
    for (std::size_t i = 0; i < 256; ++i) {
        made.add(std::string("<0x") + digits[i / 16] + digits[i % 16] + ">", 0.0F, token_kind::byte);
    }
    std::vector<std::string> characters{space};
    for (const char each : std::string_view("etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLUCMFWYPVBGKJQXZ.,;:!?'-0123456789")) {
        characters.emplace_back(1, each);
    }
    characters.emplace_back("\xC3\xA9");  // e with an acute: one character of two bytes
    if (size < made.tokens.size() + characters.size()) throw std::invalid_argument("the vocabulary is too small");
    float score = 0.0F;
    for (const auto& [left, right] : merges(size - made.tokens.size() - characters.size(), space)) {
        made.add(left + right, score, token_kind::normal);
        score -= 1.0F;
    }
    for (std::string& each : characters) {
        made.add(std::move(each), score, token_kind::normal);
        score -= 1.0F;
    }
    return made;
}

/// GPT-2 writes each byte as a visible character: itself if it is one, else the next unused one from U+0100 on.
inline std::array<std::string, 256> byte_characters() {
    std::array<std::string, 256> characters;
    std::uint32_t next = 256;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        const bool visible = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        const std::uint32_t code = visible ? byte : next++;
        if (code < 128) {
            characters[byte] = static_cast<char>(code);
        } else {
            characters[byte] = {static_cast<char>(0xC0U | (code >> 6)), static_cast<char>(0x80U | (code & 63U))};
        }
    }
    return characters;
}

inline void add_llama_tokenizer(gguf_writer& writer, const synthetic_llama& options) {
    const vocabulary made = llama_vocabulary(options.vocabulary);
    writer.add("tokenizer.ggml.model", "llama");
    writer.add_array("tokenizer.ggml.tokens", made.tokens);
    writer.add_array("tokenizer.ggml.scores", made.scores);
    writer.add_array("tokenizer.ggml.token_type", made.kinds);
    writer.add("tokenizer.ggml.bos_token_id", std::uint32_t{1});
    writer.add("tokenizer.ggml.eos_token_id", std::uint32_t{2});
    writer.add("tokenizer.ggml.unknown_token_id", std::uint32_t{0});
    writer.add("tokenizer.ggml.add_bos_token", options.add_bos);
    writer.add("tokenizer.ggml.add_space_prefix", options.add_space_prefix);
}

inline void add_gpt2_tokenizer(gguf_writer& writer, const synthetic_llama& options) {
    const std::array<std::string, 256> characters = byte_characters();
    if (options.vocabulary < 258) throw std::invalid_argument("the vocabulary is too small");
    vocabulary made;
    for (const std::string& each : characters) made.add(each, 0.0F, token_kind::normal);
    std::vector<std::string> merge_lines;
    for (const auto& [left, right] : merges(options.vocabulary - 258, characters[' '])) {
        made.add(left + right, 0.0F, token_kind::normal);
        merge_lines.push_back(left + " " + right);
    }
    made.add("<|begin_of_text|>", 0.0F, token_kind::control);
    made.add("<|end_of_text|>", 0.0F, token_kind::control);
    writer.add("tokenizer.ggml.model", "gpt2");
    if (!options.pre.empty()) writer.add("tokenizer.ggml.pre", options.pre);
    writer.add_array("tokenizer.ggml.tokens", made.tokens);
    writer.add_array("tokenizer.ggml.token_type", made.kinds);
    writer.add_array("tokenizer.ggml.merges", merge_lines);
    writer.add("tokenizer.ggml.bos_token_id", options.vocabulary - 2);
    writer.add("tokenizer.ggml.eos_token_id", options.vocabulary - 1);
    writer.add("tokenizer.ggml.add_bos_token", options.add_bos);
}

inline void add_metadata(gguf_writer& writer, const synthetic_llama& options) {
    const std::string architecture = options.replaced.empty() ? "llama" : "recurformer";
    const auto key = [&](std::string_view name) { return architecture + "." + std::string(name); };
    writer.add("general.architecture", architecture);
    writer.add("general.name", "synthetic");
    writer.add(key("context_length"), options.context);
    writer.add(key("embedding_length"), options.width);
    writer.add(key("block_count"), options.layers);
    writer.add(key("feed_forward_length"), options.feed_forward);
    writer.add(key("attention.head_count"), options.heads);
    writer.add(key("attention.head_count_kv"), options.kv_heads);
    writer.add(key("attention.layer_norm_rms_epsilon"), options.rms_epsilon);
    writer.add(key("vocab_size"), options.vocabulary);
    writer.add(key("rope.freq_base"), options.rope_base);
    const std::uint32_t value_dim = options.value_dim != 0 ? options.value_dim : options.head_dim;
    const bool unusual_head = options.head_dim * options.heads != options.width || value_dim != options.head_dim;
    if (unusual_head) {
        writer.add(key("attention.key_length"), options.head_dim);
        writer.add(key("attention.value_length"), value_dim);
    }
    if (unusual_head || options.rope_dimensions != 0) {
        writer.add(key("rope.dimension_count"),
                   options.rope_dimensions != 0 ? options.rope_dimensions : options.head_dim);
    }
    if (options.rope_scale != 1.0F) {
        writer.add(key("rope.scaling.type"), "linear");
        writer.add(key("rope.scaling.factor"), options.rope_scale);
    }
    const auto add_if = [&](const char* name, auto value) {
        if (value != 0) writer.add(key("rope.") + name, value);
    };
    if (!options.scaling_type.empty()) writer.add(key("rope.scaling.type"), options.scaling_type);
    add_if("scaling.factor", options.scaling_factor);
    add_if("scale_linear", options.scale_linear);
    add_if("scaling.attn_factor", options.attn_factor);
    add_if("scaling.yarn_beta_fast", options.yarn_beta_fast);
    add_if("scaling.yarn_beta_slow", options.yarn_beta_slow);
    add_if("scaling.original_context_length", options.original_context);
    if (options.sliding_window != 0) writer.add(key("attention.sliding_window"), options.sliding_window);
    if (options.replaced.empty()) return;
    writer.add_array(key("replaced_heads.heads"), options.replaced);
    writer.add(key("replaced_heads.cell"), options.cell);
    if (options.cell != "selective") return;
    writer.add(key("replaced_heads.expansion"), options.expansion);
    writer.add(key("replaced_heads.state_size"), options.state_size);
    writer.add(key("replaced_heads.convolution"), options.convolution);
    writer.add(key("replaced_heads.delta_rank"), options.delta_rank);
}

/// The heads of a layer that are not replaced, and the KV heads that serve one of them.
inline std::pair<std::uint64_t, std::uint64_t> attending_heads(const synthetic_llama& options, std::uint32_t layer) {
    std::uint64_t heads = 0;
    std::uint64_t kv_heads = 0;
    const std::uint32_t group = options.heads / options.kv_heads;
    for (std::uint32_t first = 0; first < options.heads; first += group) {
        std::uint64_t left = 0;
        for (std::uint32_t h = first; h < first + group; ++h) {
            if (std::ranges::find(options.replaced, layer * options.heads + h) == options.replaced.end()) ++left;
        }
        heads += left;
        if (left > 0) ++kv_heads;
    }
    return {heads, kv_heads};
}

/// The cell that writes `outputs` numbers for the replaced heads of a layer; nothing if there are none.
inline void add_cell(gguf_writer& writer, const synthetic_llama& options, random_numbers& random,
                     const std::string& prefix, std::uint64_t outputs) {
    if (outputs == 0) return;
    const auto matrix = [&](const char* name, std::uint64_t columns, std::uint64_t rows, tensor_type type) {
        const double deviation = 1.0 / std::sqrt(static_cast<double>(columns));
        writer.add_tensor(prefix + name, type, {columns, rows}, random.normals(columns * rows, deviation));
    };
    const auto vector = [&](const char* name, std::uint64_t size, double mean) {
        writer.add_tensor(prefix + name, tensor_type::f32, {size}, random.normals(size, 0.5, mean));
    };
    if (options.cell == "min_gru") {
        matrix("gate.weight", options.width, outputs, options.matrices);
        matrix("candidate.weight", options.width, outputs, options.matrices);
        vector("gate.bias", outputs, -1.0);
        vector("candidate.bias", outputs, 0.0);
        return;
    }
    const std::uint64_t units = options.expansion * outputs;
    matrix("input.weight", options.width, 2 * units, options.matrices);
    matrix("convolution.weight", options.convolution, units, tensor_type::f32);
    vector("convolution.bias", units, 0.0);
    matrix("selection.weight", units, options.delta_rank + std::uint64_t{2} * options.state_size, options.matrices);
    matrix("delta.weight", options.delta_rank, units, tensor_type::f32);
    vector("delta.bias", units, -2.0);
    matrix("decay.weight", options.state_size, units, tensor_type::f32);
    vector("skip.weight", units, 1.0);
    matrix("output.weight", units, outputs, options.matrices);
}

inline void add_tensors(gguf_writer& writer, const synthetic_llama& options) {
    random_numbers random(options.seed);
    const auto vector = [&](const std::string& name, double mean = 1.0) {
        writer.add_tensor(name, tensor_type::f32, {options.width}, random.normals(options.width, 0.1, mean));
    };
    // Scaled so that activations keep their size whatever the width; `gain` makes softmaxes far from uniform.
    const auto matrix = [&](const std::string& name, std::uint64_t columns, std::uint64_t rows, double gain = 1.0) {
        const double deviation = gain / std::sqrt(static_cast<double>(columns));
        writer.add_tensor(name, options.matrices, {columns, rows}, random.normals(columns * rows, deviation));
    };
    const std::uint64_t value_dim = options.value_dim != 0 ? options.value_dim : options.head_dim;
    const std::uint64_t attended_width = options.heads * value_dim;
    const auto bias = [&](const std::string& name, std::uint64_t size) {
        if (options.biases) writer.add_tensor(name, tensor_type::f32, {size}, random.normals(size, 0.3));
    };
    matrix("token_embd.weight", options.width, options.vocabulary, 2.0);
    for (std::uint32_t layer = 0; layer < options.layers; ++layer) {
        const std::string prefix = "blk." + std::to_string(layer) + ".";
        const auto [heads, kv_heads] = attending_heads(options, layer);
        const std::uint64_t query_width = heads * options.head_dim;
        const std::uint64_t key_width = kv_heads * options.head_dim;
        const std::uint64_t value_width = kv_heads * value_dim;
        vector(prefix + "attn_norm.weight");
        if (heads > 0) {
            matrix(prefix + "attn_q.weight", options.width, query_width, 1.5);
            matrix(prefix + "attn_k.weight", options.width, key_width, 1.5);
            matrix(prefix + "attn_v.weight", options.width, value_width);
        }
        matrix(prefix + "attn_output.weight", attended_width, options.width);
        vector(prefix + "ffn_norm.weight");
        matrix(prefix + "ffn_gate.weight", options.width, options.feed_forward);
        matrix(prefix + "ffn_up.weight", options.width, options.feed_forward);
        matrix(prefix + "ffn_down.weight", options.feed_forward, options.width);
        if (heads > 0) {
            bias(prefix + "attn_q.bias", query_width);
            bias(prefix + "attn_k.bias", key_width);
            bias(prefix + "attn_v.bias", value_width);
        }
        bias(prefix + "attn_output.bias", options.width);
        bias(prefix + "ffn_gate.bias", options.feed_forward);
        bias(prefix + "ffn_up.bias", options.feed_forward);
        bias(prefix + "ffn_down.bias", options.width);
        add_cell(writer, options, random, prefix + "replaced.", (options.heads - heads) * value_dim);
    }
    vector("output_norm.weight", options.final_norm);
    if (!options.tied) matrix("output.weight", options.width, options.vocabulary, 2.0);
    if (options.rope_freqs) {
        const std::uint64_t pairs = (options.rope_dimensions != 0 ? options.rope_dimensions : options.head_dim) / 2;
        std::vector<float> factors(pairs);
        for (float& factor : factors) factor = static_cast<float>(1.0 + 7.0 * random.uniform());
        writer.add_tensor("rope_freqs.weight", tensor_type::f32, {pairs}, factors);
    }
}

}  // namespace synthetic

inline gguf_writer make_synthetic_llama(const synthetic_llama& options) {
    gguf_writer writer(options.version);
    synthetic::add_metadata(writer, options);
    if (options.tokenizer == "llama") {
        synthetic::add_llama_tokenizer(writer, options);
    } else if (options.tokenizer == "gpt2") {
        synthetic::add_gpt2_tokenizer(writer, options);
    } else {
        throw std::invalid_argument("tokenizer is 'llama' or 'gpt2', not '" + options.tokenizer + "'");
    }
    if (!options.vocabulary_only) synthetic::add_tensors(writer, options);
    return writer;
}

inline void write_synthetic_llama(const std::filesystem::path& path, const synthetic_llama& options = {}) {
    make_synthetic_llama(options).write(path);
}

}  // namespace demo
