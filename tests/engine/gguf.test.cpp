// What a good file gives back, what each kind of bad file is told, and that no file at all can do worse than that.
#include "gguf.hpp"

#include <functional>
#include <limits>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "engine/synthetic_gguf.hpp"
#include "read_vocabulary.hpp"

namespace gguf_test {

using demo::byte_buffer;
using demo::gguf;
using demo::gguf_error;
using demo::gguf_writer;
using demo::tensor_type;

constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();

/// A folder of this process alone, gone with the test.
class Gguf : public testing::Test {
  protected:
    Gguf() : folder_(std::filesystem::path(testing::TempDir()) / ("multistate-gguf-" + std::to_string(::getpid()))) {
        std::filesystem::create_directories(folder_);
    }
    ~Gguf() override { std::filesystem::remove_all(folder_); }

    [[nodiscard]] std::filesystem::path path() const { return folder_ / "model.gguf"; }

    [[nodiscard]] gguf open(const gguf_writer& writer) const { return open(writer.bytes()); }
    [[nodiscard]] gguf open(std::span<const std::byte> bytes) const {
        demo::write_file(path(), bytes);
        return gguf(path());
    }

    /// Opening `bytes` must fail with one sentence that begins with the file's name and contains all of `parts`.
    void expect_refused(std::span<const std::byte> bytes, const std::vector<std::string>& parts) const {
        expect_error([&] { static_cast<void>(open(bytes)); }, parts);
    }
    void expect_refused(const gguf_writer& writer, const std::vector<std::string>& parts) const {
        expect_refused(writer.bytes(), parts);
    }
    void expect_error(const std::function<void()>& act, const std::vector<std::string>& parts) const {
        try {
            act();
            ADD_FAILURE() << "nothing was refused; expected: " << parts.front();
        } catch (const gguf_error& error) {
            const std::string message = error.what();
            EXPECT_EQ(message.find(path().string() + ": "), 0U) << message;
            for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
            EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        }
    }

  private:
    std::filesystem::path folder_;
};

/// A header that claims these counts; what follows is up to the test.
byte_buffer header(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
    byte_buffer file;
    file.put_text("GGUF").put(version).put(tensors).put(values);
    return file;
}

std::vector<float> ramp(std::size_t count) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) / 16.0F - 4.0F;
    return values;
}

/// A little of everything, in a file of about a thousand bytes.
gguf_writer little_of_everything(std::uint32_t version = 3, std::size_t filling = 0) {
    gguf_writer writer(version);
    if (filling != 0) writer.add("filling", std::string(filling, 'x'));
    writer.add("u8", std::uint8_t{200});
    writer.add("i8", std::int8_t{-100});
    writer.add("u16", std::uint16_t{60000});
    writer.add("i16", std::int16_t{-30000});
    writer.add("u32", std::uint32_t{4000000000U});
    writer.add("i32", std::int32_t{-2000000000});
    writer.add("u64", largest);
    writer.add("i64", std::int64_t{-5});
    writer.add("f32", 0.5F);
    writer.add("f64", 0.1);
    writer.add("yes", true);
    writer.add("no", false);
    writer.add("text", "hello");
    writer.add("empty", "");
    writer.add_array("strings", std::vector<std::string>{"a", "", "ccc"});
    writer.add_array("i32s", std::vector<std::int32_t>{1, -2, 3});
    writer.add_array("u64s", std::vector<std::uint64_t>{1, largest});
    writer.add_array("f32s", std::vector<float>{1.5F, -2.5F});
    writer.add_array("f64s", std::vector<double>{0.25});
    writer.add_array("bools", std::vector<std::uint8_t>{});
    writer.add_tensor("vector", tensor_type::f32, {3}, ramp(3));
    writer.add_tensor("matrix", tensor_type::q8_0, {32, 2}, ramp(64));
    return writer;
}

/// Asks an open file for all it has, in every way; only gguf_error may come of it.
void ask_for_everything(const gguf& file) {
    const auto ask = [](const auto& question) {
        try {
            static_cast<void>(question());
        } catch (const gguf_error& error) {
            ASSERT_NE(std::string(error.what()), "");
        }
    };
    for (const char* key : {"u8", "i8",   "u16",   "i16",     "u32",  "i32",  "u64",  "i64",  "f32",   "f64",   "yes",
                            "no", "text", "empty", "strings", "i32s", "u64s", "f32s", "f64s", "bools", "absent"}) {
        ask([&] { return file.string(key); });
        ask([&] { return file.integer(key); });
        ask([&] { return file.real(key); });
        ask([&] { return file.boolean(key); });
        ask([&] { return file.strings(key); });
        ask([&] { return file.integers(key); });
        ask([&] { return file.reals(key); });
        ask([&] { return file.wrong_value(key, "expected nothing").what()[0]; });
    }
    for (const demo::tensor_view& tensor : file.tensors()) {
        std::vector<float> values(tensor.elements());
        demo::dequantize(tensor.type, tensor.data, values);
        ASSERT_EQ(file.find_tensor(tensor.name), &tensor);
    }
}

TEST_F(Gguf, GivesBackEveryKindOfValueInBothVersions) {
    for (const std::uint32_t version : {2U, 3U}) {
        const gguf file = open(little_of_everything(version));
        EXPECT_EQ(file.version(), version);
        EXPECT_EQ(file.path(), path());
        EXPECT_EQ(file.integer("u8"), 200U);
        EXPECT_EQ(file.integer("u16"), 60000U);
        EXPECT_EQ(file.integer("u32"), 4000000000U);
        EXPECT_EQ(file.integer("u64"), largest);
        EXPECT_EQ(file.real("f32"), 0.5);
        EXPECT_EQ(file.real("f64"), 0.1);
        EXPECT_TRUE(file.boolean("yes"));
        EXPECT_FALSE(file.boolean("no"));
        EXPECT_EQ(file.string("text"), "hello");
        EXPECT_EQ(file.string("empty"), "");
        EXPECT_EQ(file.strings("strings"), (std::vector<std::string_view>{"a", "", "ccc"}));
        EXPECT_EQ(file.integers("i32s"), (std::vector<std::int64_t>{1, -2, 3}));
        EXPECT_EQ(file.reals("f32s"), (std::vector<float>{1.5F, -2.5F}));
        EXPECT_EQ(file.reals("f64s"), (std::vector<float>{0.25F}));
        EXPECT_TRUE(file.integers("bools").empty());
        ask_for_everything(file);
    }
}

TEST_F(Gguf, DefaultsStandInForAbsentKeysOnly) {
    const gguf file = open(little_of_everything());
    EXPECT_EQ(file.string("absent", "x"), "x");
    EXPECT_EQ(file.integer("absent", 7), 7U);
    EXPECT_EQ(file.real("absent", 1.5), 1.5);
    EXPECT_TRUE(file.boolean("absent", true));
    EXPECT_EQ(file.string("text", "x"), "hello");
    EXPECT_EQ(file.integer("u8", 7), 200U);
    EXPECT_EQ(file.real("f32", 1.5), 0.5);
    EXPECT_FALSE(file.boolean("no", true));
    EXPECT_TRUE(file.has("text"));
    EXPECT_FALSE(file.has("absent"));
    expect_error([&] { static_cast<void>(file.integer("text", 7)); }, {"key 'text' is the string 'hello'"});
}

TEST_F(Gguf, ValuesOfAnotherKind) {
    const gguf file = open(little_of_everything());
    expect_error([&] { static_cast<void>(file.string("absent")); }, {"key 'absent' is missing; expected a string"});
    expect_error([&] { static_cast<void>(file.string("u8")); }, {"key 'u8' is 200 (uint8); expected a string"});
    expect_error([&] { static_cast<void>(file.integer("i8")); },
                 {"key 'i8' is -100 (int8); expected an integer that is not negative"});
    expect_error([&] { static_cast<void>(file.integer("i64")); }, {"key 'i64' is -5 (int64)"});
    expect_error([&] { static_cast<void>(file.integer("f32")); }, {"key 'f32' is 0.5 (float32)"});
    expect_error([&] { static_cast<void>(file.integer("yes")); }, {"key 'yes' is true"});
    expect_error([&] { static_cast<void>(file.real("u32")); }, {"key 'u32' is 4000000000 (uint32)", "float"});
    expect_error([&] { static_cast<void>(file.boolean("text")); }, {"'text' is the string 'hello'", "a bool"});
    expect_error([&] { static_cast<void>(file.integer("i32s")); }, {"key 'i32s' is an array of 3 int32"});
    expect_error([&] { static_cast<void>(file.strings("text")); }, {"key 'text'", "an array of strings"});
    expect_error([&] { static_cast<void>(file.strings("i32s")); }, {"key 'i32s' is an array of 3 int32"});
    expect_error([&] { static_cast<void>(file.strings("absent")); }, {"key 'absent' is missing"});
    expect_error([&] { static_cast<void>(file.reals("i32s")); }, {"key 'i32s' is an array of 3 int32"});
    expect_error([&] { static_cast<void>(file.integers("f32s")); }, {"key 'f32s' is an array of 2 float32"});
    expect_error([&] { static_cast<void>(file.integers("u64s")); }, {"key 'u64s'", "below 2^63"});
    expect_error([&] { throw file.wrong_value("u8", "1 to 100 are supported"); },
                 {"key 'u8' is 200 (uint8); 1 to 100 are supported"});
}

TEST_F(Gguf, SignedIntegersNumbersArraysAndKeys) {
    const gguf file = open(little_of_everything());
    EXPECT_EQ(file.signed_integer("i64"), -5);
    EXPECT_EQ(file.signed_integer("u32"), 4000000000);
    expect_error([&] { static_cast<void>(file.signed_integer("u64")); }, {"key 'u64'", "below 2^63"});
    expect_error([&] { static_cast<void>(file.signed_integer("text")); }, {"key 'text'", "an integer"});
    EXPECT_EQ(file.number("i8"), -100);
    EXPECT_EQ(file.number("u64"), 0x1p64);
    EXPECT_EQ(file.number("f32"), 0.5);
    expect_error([&] { static_cast<void>(file.number("yes")); }, {"key 'yes' is true", "a finite number"});
    EXPECT_TRUE(file.is_array("i32s"));
    EXPECT_FALSE(file.is_array("i32"));
    EXPECT_FALSE(file.is_array("absent"));
    EXPECT_EQ(file.keys("i"), (std::vector<std::string_view>{"i16", "i32", "i32s", "i64", "i8"}));
    EXPECT_TRUE(file.keys("z").empty());
    EXPECT_EQ(file.keys("").size(), 20U);
    EXPECT_EQ(file.size_bytes(), little_of_everything().bytes().size());
}

TEST_F(Gguf, TensorsThatNobodyTook) {
    const gguf file = open(little_of_everything());
    demo::tensor_reader reader(file);
    EXPECT_EQ(reader.take("vector", {3}).name, "vector");
    EXPECT_EQ(reader.take_optional("sphere", {3}), nullptr);
    expect_error([&] { reader.refuse_rest(); }, {"tensor 'matrix' has no place"});
    expect_error([&] { static_cast<void>(reader.take_optional("matrix", {3})); }, {"'matrix' has shape [32, 2]"});
    EXPECT_NE(reader.take_optional("matrix", {32, 2}), nullptr);
    reader.refuse_rest();
}

TEST_F(Gguf, VocabulariesWithFieldsThatNobodyNeeds) {
    const auto vocabulary = [&](const char* model, const std::function<void(gguf_writer&)>& add) {
        gguf_writer writer;
        writer.add("tokenizer.ggml.model", model);
        writer.add_array("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
        writer.add_array("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
        add(writer);
        return demo::read_tokenizer(open(writer));
    };
    // Ids that are out of range, of tokens that no text needs.
    const auto unused = [](gguf_writer& writer) {
        writer.add("tokenizer.ggml.eos_token_id", std::uint32_t{4294967295});
        writer.add("tokenizer.ggml.eot_token_id", std::int32_t{-1});
        writer.add("tokenizer.ggml.padding_token_id", std::uint64_t{largest});
        writer.add("tokenizer.ggml.bos_token_id", std::uint64_t{largest});
        writer.add("tokenizer.ggml.add_bos_token", false);
        writer.add("tokenizer.ggml.add_eos_token", true);
        writer.add("tokenizer.ggml.remove_extra_whitespaces", false);
    };
    EXPECT_TRUE(vocabulary("llama", unused).notes().empty());
    EXPECT_EQ(vocabulary("gpt2", unused).bos(), std::nullopt);
    expect_error(
        [&] {
            vocabulary("llama",
                       [](gguf_writer& w) { w.add("tokenizer.ggml.bos_token_id", std::uint32_t{4294967295}); });
        },
        {"tokenizer.ggml.bos_token_id is 4294967295; valid ids are 0 to 2"});
    // What the other model would need.
    const auto others = [](gguf_writer& writer) {
        writer.add("tokenizer.ggml.pre", "some words");
        writer.add("tokenizer.ggml.unknown_token_id", std::uint32_t{2});
    };
    EXPECT_TRUE(vocabulary("llama", others).notes().empty());
    // What might change the ids and is not supported.
    const auto notes = vocabulary("llama", [](gguf_writer& writer) {
                           writer.add("tokenizer.ggml.remove_extra_whitespaces", true);
                           writer.add("tokenizer.ggml.normalizer.lowercase", true);
                       }).notes();
    ASSERT_EQ(notes.size(), 2U);
    EXPECT_NE(notes[0].find("'tokenizer.ggml.normalizer.lowercase'"), std::string::npos) << notes[0];
    EXPECT_NE(notes[1].find("'tokenizer.ggml.remove_extra_whitespaces'"), std::string::npos) << notes[1];
}

TEST_F(Gguf, NumbersThatAreNone) {
    gguf_writer writer;
    writer.add("infinite", std::numeric_limits<float>::infinity());
    writer.add("nan", std::numeric_limits<double>::quiet_NaN());
    writer.add_array("scores", std::vector<float>{1.0F, std::numeric_limits<float>::quiet_NaN()});
    const gguf file = open(writer);
    expect_error([&] { static_cast<void>(file.real("infinite")); }, {"key 'infinite' is inf (float32)", "finite"});
    expect_error([&] { static_cast<void>(file.real("nan", 1.0)); }, {"key 'nan' is nan (float64)", "finite"});
    expect_error([&] { static_cast<void>(file.reals("scores")); }, {"key 'scores' is an array of 2 float32", "NaN"});
}

TEST_F(Gguf, EveryTensorTypeInBothVersionsAndAtOddAlignments) {
    const std::vector<float> values = ramp(512);
    for (const tensor_type type : {tensor_type::f32, tensor_type::f16, tensor_type::bf16, tensor_type::q8_0,
                                   tensor_type::q4_0, tensor_type::q4_k, tensor_type::q6_k}) {
        for (const auto& [version, alignment] :
             {std::pair{2U, 32U}, std::pair{3U, 32U}, std::pair{3U, 1U}, std::pair{3U, 4096U}}) {
            gguf_writer writer(version, alignment);
            writer.add("odd length", "x");
            writer.add_tensor("first", tensor_type::f32, {1}, ramp(1));
            writer.add_tensor("values", type, {256, 2}, values);
            const gguf file = open(writer);
            ASSERT_EQ(file.tensors().size(), 2U);
            const demo::tensor_view& tensor = file.tensor("values", {256, 2});
            EXPECT_EQ(tensor.type, type);
            EXPECT_EQ(tensor.columns(), 256U);
            EXPECT_EQ(tensor.rows(), 2U);
            EXPECT_EQ(tensor.elements(), 512U);
            const std::vector<std::byte> expected = demo::quantize(type, values);
            EXPECT_TRUE(std::ranges::equal(tensor.data, expected)) << demo::layout_of(type).name;
        }
    }
}

TEST_F(Gguf, Tensors) {
    gguf_writer writer;
    writer.add_tensor("cube", tensor_type::f32, {2, 3, 4, 1}, ramp(24));
    const gguf file = open(writer);
    const demo::tensor_view& cube = file.tensor("cube");
    EXPECT_EQ(cube.shape, (std::vector<std::uint64_t>{2, 3, 4, 1}));
    EXPECT_EQ(cube.rows(), 12U);
    EXPECT_EQ(file.find_tensor("cube"), &cube);
    EXPECT_EQ(file.find_tensor("sphere"), nullptr);
    EXPECT_EQ(&file.tensor("cube", {2, 3, 4}), &cube);
    expect_error([&] { static_cast<void>(file.tensor("sphere")); }, {"tensor 'sphere' is missing"});
    expect_error(
        [&] {
            static_cast<void>(file.tensor("cube", {3, 2, 4}));
        },
        {"tensor 'cube' has shape [2, 3, 4, 1]; expected [3, 2, 4]"});
}

TEST_F(Gguf, VocabularyAlone) {
    gguf_writer writer;
    writer.add_array("tokens", std::vector<std::string>{"a", "b"});
    const gguf file = open(writer);
    EXPECT_TRUE(file.tensors().empty());
    EXPECT_EQ(file.strings("tokens").size(), 2U);
    EXPECT_TRUE(open(gguf_writer()).tensors().empty());  // nor any value
}

TEST_F(Gguf, ViewsOutliveAMove) {
    gguf first = open(little_of_everything());
    const std::string_view text = first.string("text");
    const demo::tensor_view& tensor = first.tensor("matrix");
    const gguf second = std::move(first);
    EXPECT_EQ(text, "hello");
    EXPECT_EQ(&second.tensor("matrix"), &tensor);
    ask_for_everything(second);
    static_assert(!std::is_copy_constructible_v<gguf>);
}

TEST_F(Gguf, AFileInMemory) {
    const gguf_writer writer = little_of_everything();
    const gguf file = open(writer);
    const auto bytes = writer.bytes();
    const gguf same(bytes, "a name");
    EXPECT_EQ(same.path(), "a name");
    EXPECT_EQ(same.size_bytes(), file.size_bytes());
    ASSERT_EQ(same.tensors().size(), file.tensors().size());
    for (std::size_t i = 0; i < file.tensors().size(); ++i) {
        EXPECT_EQ(same.tensors()[i].name, file.tensors()[i].name);
        EXPECT_TRUE(std::ranges::equal(same.tensors()[i].data, file.tensors()[i].data));
    }
    for (const std::size_t length : {std::size_t{0}, std::size_t{20}, bytes.size() / 2}) {
        EXPECT_THROW(gguf(std::span(bytes).first(length), "cut"), gguf_error) << length;
    }
}

TEST_F(Gguf, NotAFileToRead) {
    expect_error([&] { gguf file(path()); }, {"cannot be opened", "No such file"});
    expect_refused(std::span<const std::byte>{}, {"empty"});
    std::filesystem::remove(path());
    std::filesystem::create_directory(path());
    expect_error([&] { gguf file(path()); }, {"is a directory"});
    std::filesystem::remove(path());
    ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
    expect_error([&] { gguf file(path()); }, {"not a regular file"});
    std::filesystem::remove(path());
}

TEST_F(Gguf, NotThisFormat) {
    expect_refused(byte_buffer().put_text("PK\x03\x04 and so on").bytes(), {"begins with 'PK\\x03\\x04'", "'GGUF'"});
    expect_refused(byte_buffer().put_text("x").bytes(), {"begins with 'x'"});
    expect_refused(byte_buffer().put_text("FUGG").put(0).bytes(), {"'FUGG'", "big-endian"});
    expect_refused(byte_buffer().put_text("GG").bytes(), {"header", "byte 2"});
    expect_refused(header(0, 0, 1).bytes(), {"version 1;", "2 and 3"});
    expect_refused(header(0, 0, 4).bytes(), {"version 4;", "2 and 3"});
    expect_refused(header(0, 0, 0).bytes(), {"version 0;", "2 and 3"});
    expect_refused(header(0, 0, 0x03000000).bytes(), {"version 50331648", "big-endian", "2 and 3"});
}

TEST_F(Gguf, AbsurdCountsAndLengths) {
    for (const std::uint64_t count : {std::uint64_t{2}, std::uint64_t{1} << 32, std::uint64_t{1} << 60, largest}) {
        const std::string text = std::to_string(count);
        expect_refused(header(count, 0).bytes(), {"header claims " + text + " tensors", "only 0 bytes"});
        expect_refused(header(0, count).bytes(), {"header claims " + text + " metadata values", "only 0 bytes"});
    }
    for (const std::uint64_t count : {std::uint64_t{1} << 32, std::uint64_t{1} << 61, largest}) {
        const std::string text = std::to_string(count);
        expect_refused(header(0, 1).put(count).put_text("abcdefgh").bytes(),
                       {"name of metadata value 0", "string of " + text + " bytes", "only 8 bytes"});
        expect_refused(header(0, 1).put_string("k").put(8U).put(count).bytes(), {"key 'k'", text, "only 0 bytes"});
        for (const std::uint32_t type : {0U, 4U, 6U, 7U, 8U, 10U, 12U}) {
            expect_refused(header(0, 1).put_string("k").put(9U).put(type).put(count).put(0).bytes(),
                           {"key 'k' claims " + text + " elements", "only 4 bytes"});
        }
        byte_buffer strings = header(0, 1);
        strings.put_string("k").put(9U).put(8U).put(std::uint64_t{2}).put_string("a").put(count).put_text("b");
        expect_refused(strings.bytes(), {"key 'k' has a string of " + text + " bytes", "only 1 bytes"});
        expect_refused(header(1, 0).put(count).put_text(std::string(40, 'n')).bytes(),
                       {"name of tensor 0", "string of " + text + " bytes", "only 40 bytes"});
    }
}

TEST_F(Gguf, BadMetadata) {
    const auto value = [](std::uint32_t type) { return header(0, 1).put_string("k").put(type); };
    expect_refused(value(13).put(0).bytes(), {"key 'k' has type 13", "0 to 12"});
    expect_refused(value(4294967295U).put(0).bytes(), {"key 'k' has type 4294967295", "0 to 12"});
    expect_refused(value(9).put(13U).put(std::uint64_t{0}).bytes(), {"key 'k' has type 13", "0 to 12"});
    expect_refused(value(9).put(9U).put(std::uint64_t{1}).put(4U).put(std::uint64_t{0}).bytes(),
                   {"key 'k' is an array of arrays"});
    expect_refused(value(7).put(std::uint8_t{2}).bytes(), {"key 'k' has a bool of 2", "0 or 1"});
    expect_refused(value(9).put(7U).put(std::uint64_t{2}).put(std::uint8_t{1}).put(std::uint8_t{255}).bytes(),
                   {"key 'k' has a bool of 255"});
    expect_refused(value(10).put(0).bytes(), {"key 'k' is cut off", "byte 41"});
    gguf_writer twice;
    twice.add("same", 1);
    twice.add("same", "other");
    expect_refused(twice, {"key 'same' is there twice"});
}

TEST_F(Gguf, BadAlignment) {
    for (const std::uint32_t alignment : {0U, 3U, 48U, 131072U, 4294967295U}) {
        gguf_writer writer;
        writer.add("general.alignment", alignment);
        expect_refused(writer, {"key 'general.alignment' is " + std::to_string(alignment), "power of two up to 65536"});
    }
    gguf_writer text;
    text.add("general.alignment", "32");
    expect_refused(text, {"key 'general.alignment' is the string '32'"});
    gguf_writer negative;
    negative.add("general.alignment", -32);
    expect_refused(negative, {"key 'general.alignment' is -32 (int32)"});
}

TEST_F(Gguf, BadTensorShapes) {
    const std::vector<std::byte> data(64);
    const auto refused = [&](std::uint32_t type, const std::vector<std::uint64_t>& shape,
                             const std::vector<std::string>& parts) {
        gguf_writer writer;
        writer.add_raw_tensor("w", type, shape, data);
        // Filling, so that the count of tensors is possible even for a shape without dimensions.
        writer.add_raw_tensor("filling", 0, {1}, data);
        expect_refused(writer, parts);
    };
    refused(0, {}, {"tensor 'w' has 0 dimensions", "1 to 4"});
    refused(0, {1, 1, 1, 1, 1}, {"tensor 'w' has 5 dimensions", "1 to 4"});
    refused(0, {0}, {"tensor 'w' has shape [0]", "at least 1"});
    refused(0, {4, 0}, {"tensor 'w' has shape [4, 0]", "at least 1"});
    refused(0, {largest}, {"tensor 'w' has shape [18446744073709551615]", "can hold"});
    refused(0, {std::uint64_t{1} << 32, std::uint64_t{1} << 32}, {"[4294967296, 4294967296]", "can hold"});
    refused(0, {2, largest / 2 + 2}, {"tensor 'w' has shape [2, 9223372036854775809]", "can hold"});
    refused(0, {1, 1, 1, largest}, {"tensor 'w' has shape [1, 1, 1, 18446744073709551615]", "can hold"});
    refused(8, {33, 1}, {"tensor 'w' has shape [33, 1]", "Q8_0", "multiples of 32"});
    refused(2, {16, 2}, {"tensor 'w' has shape [16, 2]", "Q4_0", "multiples of 32"});
    refused(12, {128, 2}, {"tensor 'w' has shape [128, 2]", "Q4_K", "multiples of 256"});
    refused(14, {32}, {"tensor 'w' has shape [32]", "Q6_K", "multiples of 256"});
    byte_buffer many = header(1, 0);
    many.put_string("w").put(4294967295U).put(std::uint64_t{1}).put(std::uint64_t{1}).put(std::uint64_t{1});
    expect_refused(many.bytes(), {"tensor 'w' has 4294967295 dimensions"});
}

TEST_F(Gguf, UnsupportedTensorTypes) {
    for (const auto& [type, name] :
         {std::pair{13U, "Q5_K"}, std::pair{3U, "Q4_1"}, std::pair{10U, "Q2_K"}, std::pair{24U, "I8"},
          std::pair{39U, "MXFP4"}, std::pair{4U, "unknown"}, std::pair{4294967295U, "unknown"}}) {
        gguf_writer writer;
        writer.add_raw_tensor("blk.0.attn_q.weight", type, {256, 4}, std::vector<std::byte>(4096));
        expect_refused(writer, {"tensor 'blk.0.attn_q.weight' has type " + std::to_string(type) + " (" + name +
                                "); supported are F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K"});
    }
}

TEST_F(Gguf, BadTensorPlaces) {
    const auto refused = [&](std::uint64_t offset, const std::vector<std::string>& parts) {
        gguf_writer writer;
        writer.add_tensor("first", tensor_type::f32, {16}, ramp(16));  // bytes 0 to 63
        writer.add_raw_tensor_at(offset, "w", 0, {8});
        expect_refused(writer, parts);
    };
    refused(4, {"tensor 'w' has offset 4", "multiple of the alignment, 32"});
    refused(64, {"tensor 'w' has 32 bytes at offset 64", "only 64 bytes"});
    refused(std::uint64_t{1} << 40, {"tensor 'w' has 32 bytes at offset 1099511627776", "only 64 bytes"});
    refused(largest - 31, {"tensor 'w' has 32 bytes at offset 18446744073709551584", "only 64 bytes"});
    refused(32, {"tensor 'w' has offset 32", "inside the data of tensor 'first'"});

    gguf_writer twice;
    twice.add_tensor("w", tensor_type::f32, {1}, ramp(1));
    twice.add_tensor("w", tensor_type::f32, {1}, ramp(1));
    expect_refused(twice, {"tensor 'w' is there twice"});

    gguf_writer short_by_one;
    short_by_one.add_tensor("w", tensor_type::f32, {8}, ramp(8));
    std::vector<std::byte> bytes = short_by_one.bytes();
    bytes.pop_back();
    expect_refused(bytes, {"tensor 'w' has 32 bytes at offset 0", "only 31 bytes"});
}

TEST_F(Gguf, NamesAreMadeHarmless) {
    gguf_writer writer;
    writer.add("a\n\x1B[31m'\\\xFF", 1);
    writer.add("a\n\x1B[31m'\\\xFF", 1);
    expect_refused(writer, {"key 'a\\x0a\\x1b[31m\\x27\\x5c\\xff' is there twice"});

    gguf_writer endless;
    endless.add_raw_tensor(std::string(100000, 'x'), 99, {1}, std::vector<std::byte>(32));
    expect_refused(endless, {"tensor '", std::string(80, 'x').append("...' has type 99 (unknown)")});
    EXPECT_EQ(demo::quoted("short"), "'short'");
    EXPECT_EQ(demo::quoted(std::string(80, 'x')), std::string("'").append(80, 'x').append("'"));
    EXPECT_LT(demo::quoted(std::string(100000, '\n')).size(), 100U);
}

TEST_F(Gguf, CutOffAnywhere) {
    for (const std::uint32_t version : {2U, 3U}) {
        const std::vector<std::byte> whole = little_of_everything(version).bytes();
        const std::size_t padding = 32 - 68 % 32;  // behind the last tensor, two blocks of 34 bytes
        for (std::size_t length = 0; length < whole.size(); ++length) {
            const std::span<const std::byte> part = std::span(whole).first(length);
            if (length + padding >= whole.size()) {
                ask_for_everything(open(part));
            } else {
                ASSERT_THROW(static_cast<void>(open(part)), gguf_error) << length;
            }
        }
    }
}

TEST_F(Gguf, CutOffAtTheEndOfAPage) {
    // Behind a file that fills its last page lies no memory, so that reading one byte too many is a crash; behind any
    // other there are zeros, and it would go unseen.
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t usual = little_of_everything().bytes().size();
    for (std::size_t filling = page - usual; filling < page - 32; ++filling) {
        std::vector<std::byte> bytes = little_of_everything(3, filling).bytes();
        if (bytes.size() < page) continue;
        bytes.resize(page);
        try {
            ask_for_everything(open(bytes));
        } catch (const gguf_error&) {
        }
    }
}

TEST_F(Gguf, AnyByteWrong) {
    const std::vector<std::byte> good = little_of_everything().bytes();
    demo::random_numbers random(11);
    std::size_t refused = 0;
    for (int i = 0; i < 4000; ++i) {
        std::vector<std::byte> bad = good;
        // Mostly one byte; sometimes more, or a count's worth of the largest value.
        const std::uint64_t changes = i % 4 == 0 ? 1 + random.below(8) : 1;
        for (std::uint64_t change = 0; change < changes; ++change) {
            bad[random.below(bad.size())] = static_cast<std::byte>(random.below(256));
        }
        if (i % 16 == 0) std::fill_n(bad.begin() + static_cast<long>(random.below(bad.size() - 8)), 8, std::byte{0xFF});
        try {
            ask_for_everything(open(bad));
        } catch (const gguf_error& error) {
            ++refused;
            ASSERT_LT(std::string_view(error.what()).size(), 1000U);
        }
    }
    EXPECT_GT(refused, 1000U);
    EXPECT_LT(refused, 4000U);
}

TEST_F(Gguf, RandomBytesBehindAGoodHeader) {
    demo::random_numbers random(12);
    for (int i = 0; i < 2000; ++i) {
        byte_buffer file = header(random.below(3), random.below(4));
        const std::size_t length = random.below(300);
        // Small numbers and zeros make counts and types that are believed for longer.
        for (std::size_t at = 0; at < length; ++at) {
            file.put(static_cast<std::uint8_t>(random.below(4) == 0 ? random.below(14) : 0));
        }
        try {
            ask_for_everything(open(file.bytes()));
        } catch (const gguf_error&) {
        }
    }
}

TEST_F(Gguf, SyntheticLlamas) {
    std::vector<demo::synthetic_llama> all{
        {},
        {.layers = 1, .head_dim = 32, .tied = true, .rope_scale = 4.0F, .rope_freqs = true, .tokenizer = "gpt2"},
        {.layers = 1, .rope_dimensions = 8, .sliding_window = 16, .version = 2},
        {.vocabulary_only = true}};
    for (const tensor_type type : {tensor_type::f16, tensor_type::bf16, tensor_type::q8_0, tensor_type::q4_0,
                                   tensor_type::q4_k, tensor_type::q6_k}) {
        all.push_back({.layers = 1, .width = 256, .head_dim = 64, .feed_forward = 256, .matrices = type});
    }
    for (const demo::synthetic_llama& options : all) {
        demo::write_synthetic_llama(path(), options);
        const gguf file(path());
        EXPECT_EQ(file.version(), options.version);
        EXPECT_EQ(file.string("general.architecture"), "llama");
        EXPECT_EQ(file.string("tokenizer.ggml.model"), options.tokenizer);
        EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), options.vocabulary);
        EXPECT_EQ(file.integers("tokenizer.ggml.token_type").size(), options.vocabulary);
        EXPECT_EQ(file.has("llama.attention.key_length"), options.head_dim * options.heads != options.width);
        EXPECT_EQ(file.string("llama.rope.scaling.type", "none"), options.rope_scale == 1.0F ? "none" : "linear");
        EXPECT_EQ(file.integer("llama.attention.sliding_window", 0), options.sliding_window);
        if (options.vocabulary_only) {
            EXPECT_TRUE(file.tensors().empty());
            continue;
        }
        EXPECT_EQ(file.tensor("token_embd.weight", {options.width, options.vocabulary}).type, options.matrices);
        EXPECT_EQ(file.tensor("blk.0.attn_norm.weight", {options.width}).type, tensor_type::f32);
        static_cast<void>(file.tensor("blk.0.attn_k.weight", {options.width, options.kv_heads * options.head_dim}));
        EXPECT_EQ(file.find_tensor("output.weight") == nullptr, options.tied);
        EXPECT_EQ(file.find_tensor("rope_freqs.weight") != nullptr, options.rope_freqs);
        ask_for_everything(file);
    }
}

TEST_F(Gguf, SyntheticFilesRepeat) {
    EXPECT_EQ(demo::make_synthetic_llama({.seed = 3}).bytes(), demo::make_synthetic_llama({.seed = 3}).bytes());
    EXPECT_NE(demo::make_synthetic_llama({.seed = 3}).bytes(), demo::make_synthetic_llama({.seed = 4}).bytes());
}

TEST_F(Gguf, SyntheticVocabulariesAreWhole) {
    for (const std::uint32_t size : {340U, 512U, 1000U, 1500U}) {
        const demo::synthetic::vocabulary made = demo::synthetic::llama_vocabulary(size);
        EXPECT_EQ(made.tokens.size(), size);
        EXPECT_EQ(std::set<std::string>(made.tokens.begin(), made.tokens.end()).size(), size);
    }
    const auto characters = demo::synthetic::byte_characters();
    EXPECT_EQ(std::set<std::string>(characters.begin(), characters.end()).size(), 256U);
    EXPECT_EQ(characters[' '], "\xC4\xA0");   // U+0120
    EXPECT_EQ(characters['\n'], "\xC4\x8A");  // U+010A
    EXPECT_EQ(characters[0xFF], "\xC3\xBF");  // U+00FF
    EXPECT_EQ(characters[0xAD], "\xC5\x83");  // U+0143, the last
}

TEST(BundledModel, Opens) {
    const gguf file(std::filesystem::path(MULTISTATE_DEMO_MODEL_DIR) / "books-5m-f16.gguf");
    EXPECT_EQ(file.version(), 3U);
    EXPECT_EQ(file.string("general.architecture"), "llama");
    const std::uint64_t width = file.integer("llama.embedding_length");
    const std::uint64_t vocabulary = file.integer("llama.vocab_size");
    EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), vocabulary);
    EXPECT_EQ(file.reals("tokenizer.ggml.scores").size(), vocabulary);
    EXPECT_EQ(file.tensor("token_embd.weight", {width, vocabulary}).type, tensor_type::f16);
    EXPECT_EQ(file.tensors().size(), 2 + 9 * file.integer("llama.block_count"));
    for (const demo::tensor_view& tensor : file.tensors()) {
        std::vector<float> values(tensor.elements());
        demo::dequantize(tensor.type, tensor.data, values);
        for (const float value : values) ASSERT_LT(std::fabs(value), 100.0F) << tensor.name;
    }
}

}  // namespace gguf_test
