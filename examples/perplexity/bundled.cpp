#include "bundled.hpp"

// The assembler reads the files; BUNDLED_MODEL and BUNDLED_TEXT are their paths while compiling. C++20 has no #embed.
#define BUNDLE(name, file)                                                                                         \
    asm(".pushsection .rodata.bundled,\"a\",%progbits\n.balign 64\n.global " #name "\n" #name ":\n.incbin \"" file \
        "\"\n.global " #name "_end\n" #name "_end:\n.byte 0\n.popsection\n")

BUNDLE(multistate_bundled_model, BUNDLED_MODEL);
BUNDLE(multistate_bundled_text, BUNDLED_TEXT);

extern "C" {
extern const char multistate_bundled_model[], multistate_bundled_model_end[];
extern const char multistate_bundled_text[], multistate_bundled_text_end[];
}

namespace demo {

std::span<const std::byte> bundled_model() noexcept {
    return std::as_bytes(std::span(multistate_bundled_model, multistate_bundled_model_end));
}

std::string_view bundled_text() noexcept {
    return {multistate_bundled_text, static_cast<std::size_t>(multistate_bundled_text_end - multistate_bundled_text)};
}

}  // namespace demo
