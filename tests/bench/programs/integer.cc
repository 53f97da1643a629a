// Integer work: hashing, compression, sorting.

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <queue>
#include <vector>

#include "bench_rows.h"

namespace {

std::vector<uint8_t> text;  // words of a small vocabulary: compresses about as prose does

void PrepareText(uint64_t) {
  Random random(1);
  std::array<std::array<char, 12>, 512> words{};
  for (auto& word : words) {
    const size_t length = 2 + random.Next() % 9;
    for (size_t i = 0; i < length; ++i) word[i] = static_cast<char>('a' + random.Next() % 26);
  }
  text.clear();
  while (text.size() < 256 * 1024) {
    const uint64_t value = random.Next();
    const auto& word = words[(value % 512) * (value >> 32 & 511) / 512];
    text.insert(text.end(), word.begin(), word.begin() + std::strlen(word.data()));
    text.push_back(value >> 60 == 0 ? '\n' : ' ');
  }
  text.resize(256 * 1024);
}

// FNV-1a: a chain of one multiplication a byte.
uint64_t RunFnv(uint64_t count) {
  uint64_t hash = 0xCBF29CE484222325;
  while (count-- > 0) {
    for (const uint8_t byte : text) hash = (hash ^ byte) * 0x100000001B3;
  }
  return hash;
}

// Four lanes of eight bytes, multiplied and rotated as xxHash does.
uint64_t RunLanes(uint64_t count) {
  constexpr uint64_t kFirst = 0x9E3779B185EBCA87, kSecond = 0xC2B2AE3D27D4EB4F;
  std::array<uint64_t, 4> lanes = {1, 2, 3, 4};
  while (count-- > 0) {
    for (size_t offset = 0; offset < text.size(); offset += 32) {
      for (size_t lane = 0; lane < 4; ++lane) {
        uint64_t word;
        std::memcpy(&word, &text[offset + lane * 8], 8);
        lanes[lane] = std::rotl(lanes[lane] + word * kSecond, 31) * kFirst;
      }
    }
  }
  uint64_t hash = 0;
  for (const uint64_t lane : lanes) hash = Mix(hash, lane);
  return hash;
}

// SHA-256, FIPS 180-4 section 6.2.2. The constants are computed as section 4.2.2 defines them.
std::array<uint32_t, 64> sha_constants;

void PrepareSha(uint64_t) {
  PrepareText(0);
  int found = 0;
  for (uint32_t number = 2; found < 64; ++number) {
    bool prime = true;
    for (uint32_t factor = 2; factor * factor <= number; ++factor) {
      prime = prime && number % factor != 0;
    }
    if (!prime) continue;
    // The first 32 bits of the fraction of the cube root: the greatest r with r^3 <= n * 2^96.
    unsigned __int128 root = 0;
    for (int bit = 35; bit >= 0; --bit) {
      const unsigned __int128 tried = root | static_cast<unsigned __int128>(1) << bit;
      if (tried * tried * tried <= static_cast<unsigned __int128>(number) << 96) root = tried;
    }
    sha_constants[static_cast<size_t>(found++)] = static_cast<uint32_t>(root);
  }
}

void ShaBlock(std::array<uint32_t, 8>& state, const uint8_t* block) {
  std::array<uint32_t, 64> w;
  for (size_t i = 0; i < 16; ++i) {
    uint32_t word;
    std::memcpy(&word, block + i * 4, 4);
    w[i] = __builtin_bswap32(word);
  }
  for (size_t i = 16; i < 64; ++i) {
    const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
    const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (size_t i = 0; i < 64; ++i) {
    const uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                        ((e & f) ^ (~e & g)) + sha_constants[i] + w[i];
    const uint32_t t2 =
        (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const std::array<uint32_t, 8> sums = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; ++i) state[i] += sums[i];
}

uint64_t RunSha256(uint64_t count) {
  std::array<uint32_t, 8> state = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                   0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  while (count-- > 0) {
    for (size_t offset = 0; offset < text.size(); offset += 64) ShaBlock(state, &text[offset]);
  }
  return static_cast<uint64_t>(state[0]) << 32 | state[1];
}

// Compression: LZ77 by hash chains, then Huffman codes over literals and lengths.
constexpr size_t kMinMatch = 4, kMaxMatch = 258, kWindow = 32768, kChain = 16;
constexpr size_t kSymbols = 256 + kMaxMatch - kMinMatch + 1;

struct Token {
  uint16_t symbol;    // a byte, or 256 + length - kMinMatch
  uint16_t distance;  // 0 for a byte
};

size_t MatchLength(size_t first, size_t second) {
  const size_t limit = std::min(kMaxMatch, text.size() - second);
  size_t length = 0;
  while (length < limit && text[first + length] == text[second + length]) ++length;
  return length;
}

std::vector<Token> FindMatches() {
  std::vector<int32_t> heads(1 << 15, -1), before(text.size(), -1);
  std::vector<Token> tokens;
  const auto enter = [&](size_t place) {
    uint32_t key;
    std::memcpy(&key, &text[place], 4);
    int32_t& head = heads[key * 0x9E3779B1U >> 17];
    before[place] = head;
    head = static_cast<int32_t>(place);
  };
  for (size_t place = 0; place < text.size();) {
    size_t best = 0, from = 0;
    if (place + kMinMatch <= text.size()) {
      enter(place);
      int32_t candidate = before[place];
      for (size_t step = 0; step < kChain && candidate >= 0; ++step) {
        const auto start = static_cast<size_t>(candidate);
        if (place - start > kWindow) break;
        const size_t length = MatchLength(start, place);
        if (length > best) best = length, from = start;
        candidate = before[start];
      }
    }
    if (best < kMinMatch) {
      tokens.push_back({text[place++], 0});
      continue;
    }
    tokens.push_back(
        {static_cast<uint16_t>(256 + best - kMinMatch), static_cast<uint16_t>(place - from)});
    for (size_t end = place++ + best; place < end; ++place) {
      if (place + kMinMatch <= text.size()) enter(place);
    }
  }
  return tokens;
}

// Code lengths from the tree; ties are broken by number, so that every run has the same tree.
std::array<uint8_t, kSymbols> CodeLengths(const std::vector<Token>& tokens) {
  struct Node {
    uint64_t weight;
    int left, right;
  };
  std::vector<Node> nodes(kSymbols, {0, -1, -1});
  for (const Token& token : tokens) ++nodes[token.symbol].weight;
  using Entry = std::pair<uint64_t, int>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  for (size_t i = 0; i < kSymbols; ++i) {
    if (nodes[i].weight > 0) queue.emplace(nodes[i].weight, static_cast<int>(i));
  }
  while (queue.size() > 1) {
    const Entry first = queue.top();
    queue.pop();
    const Entry second = queue.top();
    queue.pop();
    nodes.push_back({first.first + second.first, first.second, second.second});
    queue.emplace(nodes.back().weight, static_cast<int>(nodes.size()) - 1);
  }
  std::array<uint8_t, kSymbols> lengths{};
  std::vector<uint8_t> depth(nodes.size(), 0);
  for (size_t i = nodes.size(); i-- > kSymbols;) {
    depth[static_cast<size_t>(nodes[i].left)] = depth[i] + 1;
    depth[static_cast<size_t>(nodes[i].right)] = depth[i] + 1;
  }
  std::copy_n(depth.begin(), kSymbols, lengths.begin());
  return lengths;
}

uint64_t RunCompress(uint64_t count) {
  uint64_t checksum = 0;
  while (count-- > 0) {
    const std::vector<Token> tokens = FindMatches();
    const auto lengths = CodeLengths(tokens);
    std::array<uint32_t, kSymbols> codes{};  // canonical
    uint32_t code = 0;
    for (uint8_t length = 1; length < 32; ++length, code <<= 1) {
      for (size_t i = 0; i < kSymbols; ++i) {
        if (lengths[i] == length) codes[i] = code++;
      }
    }
    std::vector<uint32_t> output;
    uint64_t bits = 0;
    unsigned filled = 0;
    const auto put = [&](uint32_t value, unsigned width) {
      bits |= static_cast<uint64_t>(value) << filled;
      filled += width;
      if (filled < 32) return;
      output.push_back(static_cast<uint32_t>(bits));
      bits >>= 32;
      filled -= 32;
    };
    for (const Token& token : tokens) {
      put(codes[token.symbol], lengths[token.symbol]);
      if (token.symbol >= 256) put(token.distance, 15);
    }
    for (const uint32_t word : output) checksum = Mix(checksum, word);
    checksum = Mix(checksum, output.size());
  }
  return checksum;
}

std::vector<uint32_t> numbers;

void PrepareNumbers(uint64_t) {
  Random random(2);
  numbers.resize(64 * 1024);
  for (uint32_t& number : numbers) number = static_cast<uint32_t>(random.Next() >> 32);
}

uint64_t RunSort(uint64_t count) {
  uint64_t checksum = 0;
  while (count-- > 0) {
    std::vector<uint32_t> sorted = numbers;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < sorted.size(); i += 1024) checksum = Mix(checksum, sorted[i]);
  }
  return checksum;
}

constexpr Row kRows[] = {
    {"fnv", PrepareText, RunFnv, 500},      {"lanes", PrepareText, RunLanes, 4000},
    {"sha256", PrepareSha, RunSha256, 120}, {"compress", PrepareText, RunCompress, 30},
    {"sort", PrepareNumbers, RunSort, 40},
};

}  // namespace

int main(int argc, char** argv) {
  return RunRows(argc, argv, kRows);
}
