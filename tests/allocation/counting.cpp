#include "allocation/counting.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

std::atomic<std::size_t> bytes = 0;
std::atomic<std::size_t> calls = 0;
constexpr auto never = static_cast<std::size_t>(-1);
std::atomic<std::size_t> left_until_failure = never;

/// Memory with its size and the address to free in front of it.
struct header {
    void* begin;
    std::size_t size;
};

void* take(std::size_t size, std::size_t alignment) {
    if (left_until_failure != never && left_until_failure-- == 0) throw std::bad_alloc();  // 0 - 1 is never
    void* begin = std::malloc(size + alignment + sizeof(header));
    if (begin == nullptr) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(begin) + sizeof(header);
    void* result = reinterpret_cast<void*>((address + alignment - 1) / alignment * alignment);
    static_cast<header*>(result)[-1] = {begin, size};
    std::memset(result, 0xff, size);  // NaN in every format: nothing may read what was not written
    bytes += size;
    ++calls;
    return result;
}

void give_back(void* p) noexcept {
    if (p == nullptr) return;
    const header h = static_cast<header*>(p)[-1];
    bytes -= h.size;
    std::free(h.begin);
}

}  // namespace

namespace counting {
std::size_t live_bytes() noexcept { return bytes; }
std::size_t allocations() noexcept { return calls; }
void fail_after(std::size_t count) noexcept { left_until_failure = count; }
void never_fail() noexcept { left_until_failure = never; }
}  // namespace counting

// All other forms of new and delete call these by default.
void* operator new(std::size_t size) { return take(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return take(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
