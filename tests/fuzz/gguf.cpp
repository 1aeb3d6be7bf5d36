// Any bytes as a GGUF file: all that is in it can be read, or a gguf_error says in one sentence what is wrong.
#include "gguf.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "dequantize.hpp"
#include "llama_config.hpp"
#include "read_vocabulary.hpp"

namespace {

/// A file that lies in memory.
class memory_file {
  public:
    memory_file(const std::uint8_t* data, std::size_t size) : descriptor_(::memfd_create("gguf", MFD_CLOEXEC)) {
        if (descriptor_ < 0 || ::write(descriptor_, data, size) != static_cast<ssize_t>(size)) std::abort();
    }
    ~memory_file() { ::close(descriptor_); }
    memory_file(const memory_file&) = delete;
    memory_file& operator=(const memory_file&) = delete;

    std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  private:
    int descriptor_;
};

/// The first rows of a tensor, and its last one.
void read_rows(const demo::tensor_view& tensor) {
    if (tensor.elements() == 0) return;
    constexpr std::size_t most = 4096;  // numbers
    const std::size_t columns = tensor.columns();
    if (columns > most) return;
    std::vector<float> row(columns);
    const std::size_t bytes = demo::bytes_of(tensor.type, columns);
    for (std::size_t i = 0; i < std::min(tensor.rows(), most / columns); ++i) {
        demo::dequantize(tensor.type, tensor.data.subspan(i * bytes, bytes), row);
    }
    demo::dequantize(tensor.type, tensor.data.last(bytes), row);
}

void read_tensors(const demo::gguf& file) {
    for (const demo::tensor_view& tensor : file.tensors()) {
        read_rows(tensor);
        if (file.find_tensor(tensor.name) != &tensor) std::abort();
    }
}

void read_config(const demo::gguf& file) {
    std::vector<std::string> notes;
    const demo::llama_config config = demo::read_llama_config(file, notes);
    demo::refuse_excess(file, config);
    const std::vector<double> frequencies = demo::rope_frequencies(config, {});
    if (frequencies.size() != config.rope_dim / 2) std::abort();
}

void read_words(const demo::gguf& file) {
    const demo::tokenizer tokens = demo::read_tokenizer(file);
    for (const demo::token id : tokens.encode("The year 1984,\nna\u00efve \xFF end")) {
        if (id < 0 || static_cast<std::size_t>(id) >= tokens.size()) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const memory_file bytes(data, size);
    try {
        const demo::gguf file(bytes.path());
        for (const auto part : {read_tensors, read_config, read_words}) {
            try {
                part(file);
            } catch (const demo::gguf_error&) {
            }
        }
    } catch (const demo::gguf_error&) {
    }
    return 0;
}
