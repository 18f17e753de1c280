// The compiler's static libraries use two functions that glibc has since 2.35 and 2.36 only, where
// we promise 2.34. Here they are in terms of older ones; hidden, so that nobody else gets them.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/random.h>

#include <cstdint>
#include <cstdlib>

namespace {

struct Search {
  uintptr_t address;
  struct dl_find_object* result;
};

// Fills in the result if the object has the address and an unwind table.
int look_at(struct dl_phdr_info* object, size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  const ElfW(Phdr)* segment = nullptr;
  const ElfW(Phdr)* table = nullptr;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = object->dlpi_phdr[i];
    const uintptr_t begin = object->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD && search.address - begin < header.p_memsz) segment = &header;
    if (header.p_type == PT_GNU_EH_FRAME) table = &header;
  }
  if (segment == nullptr || table == nullptr) return 0;
  const uintptr_t begin = object->dlpi_addr + segment->p_vaddr;
  *search.result = {};
  search.result->dlfo_map_start = reinterpret_cast<void*>(begin);
  search.result->dlfo_map_end = reinterpret_cast<void*>(begin + segment->p_memsz);
  search.result->dlfo_eh_frame = reinterpret_cast<void*>(object->dlpi_addr + table->p_vaddr);
  return 1;
}

}  // namespace

extern "C" {

// For unwinding: which object holds an address. NOLINTNEXTLINE(bugprone-reserved-identifier)
int _dl_find_object(void* address, struct dl_find_object* result) noexcept {
  Search search{reinterpret_cast<uintptr_t>(address), result};
  return dl_iterate_phdr(look_at, &search) == 1 ? 0 : -1;
}

// For std::random_device.
uint32_t arc4random() noexcept {
  uint32_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) abort();
  return number;
}
}
