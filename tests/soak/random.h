// Numbers that all ranks draw alike: a function of the seed and of nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace soak {

inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}
inline uint64_t mix(uint64_t a, uint64_t b) { return mix(mix(a) ^ b); }

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() { return mix(state_++); }
  // 0 to below - 1.
  template <class Integer>
  Integer below(Integer limit) {
    return static_cast<Integer>(next() % static_cast<uint64_t>(limit));
  }
  bool chance(int percent) { return below(100) < percent; }
  template <class Element>
  void shuffle(std::vector<Element>& elements) {
    for (size_t i = elements.size(); i > 1; --i) std::swap(elements[i - 1], elements[below(i)]);
  }
  template <class Element>
  const Element& pick(const std::vector<Element>& elements) {
    return elements[below(elements.size())];
  }

 private:
  uint64_t state_;
};

}  // namespace soak
