#include "gguf.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <numeric>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace demo {
namespace {

static_assert(std::endian::native == std::endian::little, "the numbers of the file are used as they lie");
static_assert(sizeof(std::size_t) == 8, "models are larger than a 32-bit address space");

constexpr std::string_view alignment_key = "general.alignment";
constexpr std::uint64_t default_alignment = 32;
constexpr std::uint64_t largest_alignment = 65536;
constexpr std::size_t longest_quoted = 80;
constexpr auto largest_signed = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

struct type_traits {
    std::string_view name;
    std::size_t bytes;  // 0: no fixed size
};

constexpr std::array<type_traits, 13> metadata_types{{{"uint8", 1},
                                                      {"int8", 1},
                                                      {"uint16", 2},
                                                      {"int16", 2},
                                                      {"uint32", 4},
                                                      {"int32", 4},
                                                      {"float32", 4},
                                                      {"bool", 1},
                                                      {"string", 0},
                                                      {"array", 0},
                                                      {"uint64", 8},
                                                      {"int64", 8},
                                                      {"float64", 8}}};

const type_traits& traits_of(metadata_type type) { return metadata_types[static_cast<std::size_t>(type)]; }

template <class Number>
Number load(const std::byte* data) noexcept {
    Number value;  // by copy: nothing in the file is aligned
    std::memcpy(&value, data, sizeof value);
    return value;
}

std::string_view load_string(const std::byte* data) noexcept {
    return {reinterpret_cast<const char*>(data) + 8, load<std::uint64_t>(data)};
}

// Any integer of the format: the value modulo 2^64, and whether it is below zero.
struct whole {
    std::uint64_t bits;
    bool negative;
};

whole widen(std::int64_t value) noexcept { return {static_cast<std::uint64_t>(value), value < 0}; }

std::optional<whole> load_integer(metadata_type type, const std::byte* data) noexcept {
    switch (type) {
        case metadata_type::u8:
            return whole{load<std::uint8_t>(data), false};
        case metadata_type::u16:
            return whole{load<std::uint16_t>(data), false};
        case metadata_type::u32:
            return whole{load<std::uint32_t>(data), false};
        case metadata_type::u64:
            return whole{load<std::uint64_t>(data), false};
        case metadata_type::i8:
            return widen(load<std::int8_t>(data));
        case metadata_type::i16:
            return widen(load<std::int16_t>(data));
        case metadata_type::i32:
            return widen(load<std::int32_t>(data));
        case metadata_type::i64:
            return widen(load<std::int64_t>(data));
        default:
            return std::nullopt;
    }
}

std::optional<double> load_real(metadata_type type, const std::byte* data) noexcept {
    if (type == metadata_type::f32) return load<float>(data);
    if (type == metadata_type::f64) return load<double>(data);
    return std::nullopt;
}

std::string shape_text(std::span<const std::uint64_t> shape) {
    std::string text;
    for (const std::uint64_t dimension : shape) text += (text.empty() ? "[" : ", ") + std::to_string(dimension);
    return text + "]";
}

// Shapes that differ only by trailing ones hold the same numbers in the same places.
bool same_shape(std::span<const std::uint64_t> a, std::span<const std::uint64_t> b) {
    const auto trimmed = [](std::span<const std::uint64_t> shape) {
        while (shape.size() > 1 && shape.back() == 1) shape = shape.first(shape.size() - 1);
        return shape;
    };
    return std::ranges::equal(trimmed(a), trimmed(b));
}

}  // namespace

std::string quoted(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string shown = "'";
    for (const char each : text) {
        if (shown.size() > longest_quoted) {
            shown += "...";
            break;
        }
        const auto code = static_cast<unsigned char>(each);
        if (code >= 0x20 && code < 0x7F && each != '\'' && each != '\\') {
            shown += each;
        } else {
            shown.append("\\x").append(1, digits[code >> 4]).append(1, digits[code & 15U]);
        }
    }
    return shown + "'";
}

/// Walks once over the head of a file. A count or length is held against the bytes that are left before anything
/// follows from it, so that neither time nor memory can exceed what the file really holds.
class gguf_parser {
  public:
    explicit gguf_parser(gguf& file)
        : file_(file), data_(file.mapping_.get()), size_(file.mapping_.get_deleter().size) {}

    void parse() {
        check_magic();
        field_ = "the header";
        read_version();
        const auto tensor_count = number<std::uint64_t>();
        const auto metadata_count = number<std::uint64_t>();
        // The least that a tensor (name length, dimensions, one of them, type, offset) and a value can take.
        check_count(tensor_count, 8 + 4 + 8 + 4 + 8, "tensors");
        check_count(metadata_count, 8 + 4 + 1, "metadata values");
        for (std::uint64_t i = 0; i < metadata_count; ++i) read_metadata(i);
        const std::uint64_t alignment = read_alignment();
        for (std::uint64_t i = 0; i < tensor_count; ++i) read_tensor(i, alignment);
        place_tensors((position_ + alignment - 1) / alignment * alignment);
    }

  private:
    [[noreturn]] void fail(const std::string& problem) const { throw file_.error(field_ + " " + problem); }

    [[nodiscard]] std::uint64_t left() const noexcept { return size_ - position_; }
    [[nodiscard]] std::string left_text() const {
        return "only " + std::to_string(left()) + " bytes of the file are left";
    }

    template <class Number>
    Number number() {
        if (left() < sizeof(Number)) fail("is cut off: the file ends at byte " + std::to_string(size_));
        const auto value = load<Number>(data_ + position_);
        position_ += sizeof(Number);
        return value;
    }

    std::string_view string() {
        const auto length = number<std::uint64_t>();
        if (length > left()) fail("has a string of " + std::to_string(length) + " bytes, but " + left_text());
        const std::string_view text(reinterpret_cast<const char*>(data_ + position_), length);
        position_ += length;
        return text;
    }

    void check_count(std::uint64_t count, std::uint64_t least_bytes, const char* what) const {
        if (count > left() / least_bytes) {
            fail("claims " + std::to_string(count) + " " + what + ", but " + left_text());
        }
    }

    void check_magic() {
        constexpr std::string_view magic = "GGUF";
        const std::string_view first(reinterpret_cast<const char*>(data_), std::min<std::size_t>(size_, magic.size()));
        if (first == "FUGG") throw file_.error("the file begins with 'FUGG': big-endian files are not supported");
        if (first != magic.substr(0, first.size())) {
            throw file_.error("the file begins with " + quoted(first) + "; a GGUF file begins with 'GGUF'");
        }
        position_ = first.size();
    }

    void read_version() {
        file_.version_ = number<std::uint32_t>();
        if (file_.version_ == 2 || file_.version_ == 3) return;
        // A big-endian file has the same magic and its version's one byte at the other end.
        const bool big_endian = file_.version_ != 0 && (file_.version_ & 0xFFFFFFU) == 0;
        fail("has version " + std::to_string(file_.version_) + (big_endian ? ", of a big-endian file" : "") +
             "; supported are 2 and 3, little-endian");
    }

    void read_metadata(std::uint64_t index) {
        field_ = "the name of metadata value " + std::to_string(index);
        const std::string_view key = string();
        field_ = "key " + quoted(key);
        if (file_.metadata_.contains(key)) fail("is there twice; keys must be unique");
        const gguf::metadata value = read_value();
        file_.metadata_.emplace(key, value);
    }

    metadata_type read_type() {
        const auto type = number<std::uint32_t>();
        if (type >= metadata_types.size()) fail("has type " + std::to_string(type) + "; supported are 0 to 12");
        return static_cast<metadata_type>(type);
    }

    gguf::metadata read_value() {
        gguf::metadata value{.type = read_type()};
        if (value.type == metadata_type::array) {
            value.is_array = true;
            value.type = read_type();
            if (value.type == metadata_type::array) fail("is an array of arrays; supported are arrays of values");
            value.count = number<std::uint64_t>();
        }
        value.data = data_ + position_;
        const type_traits& traits = traits_of(value.type);
        const std::uint64_t least_bytes = traits.bytes == 0 ? 8 : traits.bytes;  // a string is at least its length
        if (value.is_array) check_count(value.count, least_bytes, "elements");
        if (value.type == metadata_type::string) {
            for (std::uint64_t i = 0; i < value.count; ++i) static_cast<void>(string());
        } else {
            if (left() < value.count * traits.bytes) {
                fail("is cut off: the file ends at byte " + std::to_string(size_));
            }
            position_ += value.count * traits.bytes;
        }
        if (value.type == metadata_type::boolean) check_booleans(value);
        return value;
    }

    void check_booleans(const gguf::metadata& value) const {
        for (std::uint64_t i = 0; i < value.count; ++i) {
            const int given = std::to_integer<int>(value.data[i]);
            if (given > 1) fail("has a bool of " + std::to_string(given) + "; expected 0 or 1");
        }
    }

    [[nodiscard]] std::uint64_t read_alignment() const {
        const std::uint64_t alignment = file_.integer(alignment_key, default_alignment);
        if (std::has_single_bit(alignment) && alignment <= largest_alignment) return alignment;
        throw file_.wrong_value(alignment_key, "expected a power of two up to " + std::to_string(largest_alignment));
    }

    void read_tensor(std::uint64_t index, std::uint64_t alignment) {
        field_ = "the name of tensor " + std::to_string(index);
        tensor_view tensor{.name = string(), .shape = {}, .data = {}};
        field_ = "tensor " + quoted(tensor.name);
        if (!file_.tensor_indices_.emplace(tensor.name, index).second) fail("is there twice; names must be unique");
        const auto dimensions = number<std::uint32_t>();
        if (dimensions < 1 || dimensions > 4) {
            fail("has " + std::to_string(dimensions) + " dimensions; supported are 1 to 4");
        }
        for (std::uint32_t i = 0; i < dimensions; ++i) tensor.shape.push_back(number<std::uint64_t>());
        const auto type = number<std::uint32_t>();
        const auto supported = supported_tensor_type(type);
        if (!supported) {
            fail("has type " + std::to_string(type) + " (" + std::string(tensor_type_name(type)) + "); supported are " +
                 supported_tensor_types());
        }
        tensor.type = *supported;
        check_shape(tensor);
        const auto offset = number<std::uint64_t>();
        if (offset % alignment != 0) {
            fail("has offset " + std::to_string(offset) + "; expected a multiple of the alignment, " +
                 std::to_string(alignment));
        }
        offsets_.push_back(offset);
        file_.tensors_.push_back(std::move(tensor));
    }

    void check_shape(const tensor_view& tensor) const {
        // No type stores more than two numbers in a byte; with this bound no product can overflow.
        const std::uint64_t most = 2 * size_;
        std::uint64_t elements = 1;
        for (const std::uint64_t dimension : tensor.shape) {
            if (dimension == 0) fail("has shape " + shape_text(tensor.shape) + "; dimensions must be at least 1");
            if (dimension > most / elements) {
                fail("has shape " + shape_text(tensor.shape) + ", more than a file of " + std::to_string(size_) +
                     " bytes can hold");
            }
            elements *= dimension;
        }
        const block_layout& layout = layout_of(tensor.type);
        if (tensor.columns() % layout.elements != 0) {
            fail("has shape " + shape_text(tensor.shape) + "; rows of " + std::string(layout.name) +
                 " must be multiples of " + std::to_string(layout.elements));
        }
    }

    // Offsets count from `begin`, the first aligned byte behind the head.
    void place_tensors(std::uint64_t begin) {
        const std::uint64_t available = size_ > begin ? size_ - begin : 0;
        for (std::size_t i = 0; i < offsets_.size(); ++i) {
            tensor_view& tensor = file_.tensors_[i];
            const std::uint64_t bytes = bytes_of(tensor.type, tensor.elements());
            if (offsets_[i] > available || bytes > available - offsets_[i]) {
                field_ = "tensor " + quoted(tensor.name);
                fail("has " + std::to_string(bytes) + " bytes at offset " + std::to_string(offsets_[i]) +
                     ", but the file has only " + std::to_string(available) + " bytes of tensor data");
            }
            tensor.data = {data_ + begin + offsets_[i], bytes};
        }
        check_overlaps();
    }

    // Tensors that share bytes would let a small file ask for any amount of memory.
    void check_overlaps() {
        std::vector<const tensor_view*> sorted;
        for (const tensor_view& each : file_.tensors_) sorted.push_back(&each);
        std::ranges::sort(sorted, {}, [](const tensor_view* each) { return each->data.data(); });
        for (std::size_t i = 1; i < sorted.size(); ++i) {
            if (sorted[i - 1]->data.data() + sorted[i - 1]->data.size() <= sorted[i]->data.data()) continue;
            field_ = "tensor " + quoted(sorted[i]->name);
            const std::size_t index = file_.tensor_indices_.at(sorted[i]->name);
            fail("has offset " + std::to_string(offsets_[index]) + ", inside the data of tensor " +
                 quoted(sorted[i - 1]->name));
        }
    }

    gguf& file_;
    const std::byte* data_;
    std::uint64_t size_;
    std::uint64_t position_ = 0;
    std::string field_;  // what is being read, for messages
    std::vector<std::uint64_t> offsets_;
};

std::size_t tensor_view::elements() const noexcept {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

void gguf::unmap::operator()(const std::byte* address) const noexcept {
    if (mapped) ::munmap(const_cast<std::byte*>(address), size);
}

gguf::gguf(std::filesystem::path path) : path_(std::move(path)) {
    map();
    gguf_parser(*this).parse();
}

gguf::gguf(std::span<const std::byte> bytes, std::filesystem::path name) : path_(std::move(name)) {
    if (bytes.empty()) throw error("the file is empty; expected a GGUF file");
    mapping_ = {bytes.data(), unmap{bytes.size(), false}};
    gguf_parser(*this).parse();
}

void gguf::map() {
    const auto system_error = [&](const std::string& what) {
        return error(what + ": " + std::generic_category().message(errno));
    };
    struct descriptor {
        int value;
        ~descriptor() {
            if (value >= 0) ::close(value);
        }
    };
    // Non-blocking, because opening a named pipe would wait for a writer; regular files do not care.
    const descriptor file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.value < 0) throw system_error("the file cannot be opened");
    struct stat status {};
    if (::fstat(file.value, &status) != 0) throw system_error("the file cannot be examined");
    if (S_ISDIR(status.st_mode)) throw error("the file is a directory; expected a GGUF file");
    if (!S_ISREG(status.st_mode)) throw error("the file is not a regular file; expected a GGUF file");
    if (status.st_size == 0) throw error("the file is empty; expected a GGUF file");
    const auto size = static_cast<std::size_t>(status.st_size);
    void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
    if (address == MAP_FAILED) throw system_error("the file cannot be mapped");
    mapping_ = {static_cast<const std::byte*>(address), unmap{size, true}};
}

gguf_error gguf::error(std::string_view problem) const {
    return gguf_error(path_.string() + ": " + std::string(problem));
}

gguf_error gguf::wrong_value(std::string_view key, std::string_view expected) const {
    const metadata* const value = find(key);
    return error("key " + quoted(key) + " is " + (value ? describe(*value) : "missing") + "; " + std::string(expected));
}

std::string gguf::describe(const metadata& value) const {
    const std::string type(traits_of(value.type).name);
    if (value.is_array) return "an array of " + std::to_string(value.count) + " " + type;
    if (value.type == metadata_type::string) return "the string " + quoted(load_string(value.data));
    if (value.type == metadata_type::boolean) return load<std::uint8_t>(value.data) != 0 ? "true" : "false";
    std::ostringstream text;
    if (const auto integer = load_integer(value.type, value.data)) {
        if (integer->negative) {
            text << static_cast<std::int64_t>(integer->bits);
        } else {
            text << integer->bits;
        }
    } else {
        text << *load_real(value.type, value.data);
    }
    text << " (" << type << ")";
    return text.str();
}

const gguf::metadata* gguf::find(std::string_view key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
}

const gguf::metadata& gguf::find_required(std::string_view key, std::string_view expected) const {
    const metadata* const value = find(key);
    if (value == nullptr || value->is_array) throw wrong_value(key, expected);
    return *value;
}

const gguf::metadata& gguf::find_array(std::string_view key, std::string_view expected) const {
    const metadata* const value = find(key);
    if (value == nullptr || !value->is_array) throw wrong_value(key, expected);
    return *value;
}

bool gguf::is_array(std::string_view key) const {
    const metadata* const value = find(key);
    return value != nullptr && value->is_array;
}

std::vector<std::string_view> gguf::keys(std::string_view prefix) const {
    std::vector<std::string_view> found;
    for (const auto& [key, value] : metadata_) {
        if (key.starts_with(prefix)) found.push_back(key);
    }
    std::ranges::sort(found);
    return found;
}

std::string_view gguf::string(std::string_view key) const {
    constexpr std::string_view expected = "expected a string";
    const metadata& value = find_required(key, expected);
    if (value.type != metadata_type::string) throw wrong_value(key, expected);
    return load_string(value.data);
}

std::uint64_t gguf::integer(std::string_view key) const {
    constexpr std::string_view expected = "expected an integer that is not negative";
    const metadata& value = find_required(key, expected);
    const auto given = load_integer(value.type, value.data);
    if (!given || given->negative) throw wrong_value(key, expected);
    return given->bits;
}

std::int64_t gguf::signed_integer(std::string_view key) const {
    constexpr std::string_view expected = "expected an integer below 2^63";
    const metadata& value = find_required(key, expected);
    const auto given = load_integer(value.type, value.data);
    if (!given || (!given->negative && given->bits > largest_signed)) throw wrong_value(key, expected);
    return static_cast<std::int64_t>(given->bits);
}

double gguf::real(std::string_view key) const {
    constexpr std::string_view expected = "expected a finite float32 or float64";
    const metadata& value = find_required(key, expected);
    const auto given = load_real(value.type, value.data);
    if (!given || !std::isfinite(*given)) throw wrong_value(key, expected);
    return *given;
}

double gguf::number(std::string_view key) const {
    constexpr std::string_view expected = "expected a finite number";
    const metadata& value = find_required(key, expected);
    if (const auto given = load_integer(value.type, value.data)) {
        return given->negative ? static_cast<double>(static_cast<std::int64_t>(given->bits))
                               : static_cast<double>(given->bits);
    }
    const auto given = load_real(value.type, value.data);
    if (!given || !std::isfinite(*given)) throw wrong_value(key, expected);
    return *given;
}

bool gguf::boolean(std::string_view key) const {
    constexpr std::string_view expected = "expected a bool";
    const metadata& value = find_required(key, expected);
    if (value.type != metadata_type::boolean) throw wrong_value(key, expected);
    return load<std::uint8_t>(value.data) != 0;
}

std::string_view gguf::string(std::string_view key, std::string_view fallback) const {
    return has(key) ? string(key) : fallback;
}

std::uint64_t gguf::integer(std::string_view key, std::uint64_t fallback) const {
    return has(key) ? integer(key) : fallback;
}

double gguf::real(std::string_view key, double fallback) const { return has(key) ? real(key) : fallback; }

bool gguf::boolean(std::string_view key, bool fallback) const { return has(key) ? boolean(key) : fallback; }

std::vector<std::string_view> gguf::strings(std::string_view key) const {
    constexpr std::string_view expected = "expected an array of strings";
    const metadata& array = find_array(key, expected);
    if (array.type != metadata_type::string) throw wrong_value(key, expected);
    std::vector<std::string_view> values;
    values.reserve(array.count);
    const std::byte* data = array.data;
    for (std::uint64_t i = 0; i < array.count; ++i) {
        values.push_back(load_string(data));
        data += 8 + values.back().size();
    }
    return values;
}

std::vector<std::int64_t> gguf::integers(std::string_view key) const {
    constexpr std::string_view expected = "expected an array of integers below 2^63";
    const metadata& array = find_array(key, expected);
    std::vector<std::int64_t> values;
    for (std::uint64_t i = 0; i < array.count; ++i) {
        const auto given = load_integer(array.type, array.data + i * traits_of(array.type).bytes);
        if (!given || (!given->negative && given->bits > largest_signed)) throw wrong_value(key, expected);
        values.push_back(static_cast<std::int64_t>(given->bits));
    }
    return values;
}

std::vector<float> gguf::reals(std::string_view key) const {
    constexpr std::string_view expected = "expected an array of float32 or float64, none of them NaN";
    const metadata& array = find_array(key, expected);
    std::vector<float> values;
    for (std::uint64_t i = 0; i < array.count; ++i) {
        const auto given = load_real(array.type, array.data + i * traits_of(array.type).bytes);
        if (!given || std::isnan(*given)) throw wrong_value(key, expected);
        values.push_back(static_cast<float>(*given));
    }
    return values;
}

const tensor_view& tensor_reader::take(std::string_view name, std::initializer_list<std::uint64_t> shape) {
    const tensor_view& found = file_.tensor(name, shape);
    taken_.insert(found.name);
    return found;
}

const tensor_view* tensor_reader::take_optional(std::string_view name, std::initializer_list<std::uint64_t> shape) {
    return file_.find_tensor(name) == nullptr ? nullptr : &take(name, shape);
}

void tensor_reader::refuse_rest() const {
    const auto left = [&](const tensor_view& each) { return !taken_.contains(each.name); };
    const auto first = std::ranges::find_if(file_.tensors(), left);
    if (first == file_.tensors().end()) return;
    throw file_.error("tensor " + quoted(first->name) + " has no place in the models that are supported" +
                      (std::ranges::count_if(file_.tensors(), left) > 1 ? ", nor have others" : "") +
                      "; without it the model would be another one");
}

void refuse_parts(const gguf& file, std::uint64_t usable) {
    const std::uint64_t count = file.integer("split.count", 1);
    const std::uint64_t index = file.integer("split.no", 0);
    if (count <= 1 || index < usable) return;
    throw file.error("the file is part " + std::to_string(index + 1) + " of " + std::to_string(count) +
                     " of a model; parts must be merged into one file first, as `llama-gguf-split --merge` does");
}

const tensor_view* gguf::find_tensor(std::string_view name) const {
    const auto found = tensor_indices_.find(name);
    return found == tensor_indices_.end() ? nullptr : &tensors_[found->second];
}

const tensor_view& gguf::tensor(std::string_view name) const {
    if (const tensor_view* const found = find_tensor(name)) return *found;
    throw error("tensor " + quoted(name) + " is missing");
}

const tensor_view& gguf::tensor(std::string_view name, std::initializer_list<std::uint64_t> shape) const {
    const tensor_view& found = tensor(name);
    const std::span<const std::uint64_t> wanted(shape.begin(), shape.size());
    if (same_shape(found.shape, wanted)) return found;
    throw error("tensor " + quoted(name) + " has shape " + shape_text(found.shape) + "; expected " +
                shape_text(wanted));
}

}  // namespace demo
