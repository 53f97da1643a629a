// Floating point: scalar and packed SSE, x87, and the mathematical library.

#include <xmmintrin.h>

#include <array>
#include <bit>
#include <cmath>

#include "bench_rows.h"

namespace {

// A sun and four planets in circular orbits; the checksum is their energy.
struct Body {
  double x, y, z, vx, vy, vz, mass;
};

uint64_t RunNbody(uint64_t count) {
  std::array<Body, 5> bodies = {{{0, 0, 0, 0, 0, 0, 40}}};
  for (size_t i = 1; i < bodies.size(); ++i) {
    const double radius = static_cast<double>(i * i) + 4;
    const double speed = std::sqrt(40 / radius);
    bodies[i] = {radius, 0, 0.1 * static_cast<double>(i), 0, speed, 0, 0.01 / radius};
  }
  constexpr double kStep = 0.001;
  while (count-- > 0) {
    for (size_t i = 0; i < bodies.size(); ++i) {
      Body& a = bodies[i];
      for (size_t j = i + 1; j < bodies.size(); ++j) {
        Body& b = bodies[j];
        const double dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
        const double square = dx * dx + dy * dy + dz * dz;
        const double pull = kStep / (square * std::sqrt(square));
        a.vx -= dx * b.mass * pull, a.vy -= dy * b.mass * pull, a.vz -= dz * b.mass * pull;
        b.vx += dx * a.mass * pull, b.vy += dy * a.mass * pull, b.vz += dz * a.mass * pull;
      }
    }
    for (Body& body : bodies) {
      body.x += kStep * body.vx, body.y += kStep * body.vy, body.z += kStep * body.vz;
    }
  }
  uint64_t checksum = 0;
  for (const Body& body : bodies) {
    checksum = Mix(checksum, std::bit_cast<uint64_t>(body.x + body.y * body.vz));
  }
  return checksum;
}

uint64_t RunMandelbrot(uint64_t count) {
  constexpr int kSize = 128, kLimit = 64;
  uint64_t checksum = 0;
  while (count-- > 0) {
    for (int row = 0; row < kSize; ++row) {
      for (int column = 0; column < kSize; ++column) {
        const double cr = 3.0 * column / kSize - 2, ci = 2.5 * row / kSize - 1.25;
        double zr = 0, zi = 0;
        int step = 0;
        while (step < kLimit && zr * zr + zi * zi < 4) {
          const double next = zr * zr - zi * zi + cr;
          zi = 2 * zr * zi + ci;
          zr = next;
          ++step;
        }
        checksum = Mix(checksum, static_cast<uint64_t>(step));
      }
    }
  }
  return checksum;
}

constexpr int kSide = 128;
alignas(16) std::array<float, kSide * kSide> left, right, product;

void PrepareMatrices(uint64_t) {
  Random random(3);
  for (int i = 0; i < kSide * kSide; ++i) {
    left[static_cast<size_t>(i)] = static_cast<float>(random.Next() % 2001) / 1000 - 1;
    right[static_cast<size_t>(i)] = static_cast<float>(random.Next() % 2001) / 1000 - 1;
  }
}

// Four rows times eight columns at once, in eight vector registers.
uint64_t RunMatrix(uint64_t count) {
  while (count-- > 0) {
    for (int row = 0; row < kSide; row += 4) {
      for (int column = 0; column < kSide; column += 8) {
        __m128 low[4], high[4];
        for (int i = 0; i < 4; ++i) low[i] = high[i] = _mm_setzero_ps();
        for (int k = 0; k < kSide; ++k) {
          const float* line = right.data() + k * kSide + column;
          const __m128 first = _mm_load_ps(line), second = _mm_load_ps(line + 4);
          for (int i = 0; i < 4; ++i) {
            const __m128 factor = _mm_set1_ps(left[static_cast<size_t>((row + i) * kSide + k)]);
            low[i] = _mm_add_ps(low[i], _mm_mul_ps(factor, first));
            high[i] = _mm_add_ps(high[i], _mm_mul_ps(factor, second));
          }
        }
        for (int i = 0; i < 4; ++i) {
          float* line = product.data() + (row + i) * kSide + column;
          _mm_store_ps(line, low[i]);
          _mm_store_ps(line + 4, high[i]);
        }
      }
    }
  }
  uint64_t checksum = 0;
  for (const float value : product) checksum = Mix(checksum, std::bit_cast<uint32_t>(value));
  return checksum;
}

// long double is the x87's 80-bit format: a logistic map, a square root and a continued fraction.
uint64_t RunX87(uint64_t count) {
  long double x = 0.3L, root = 2, fraction = 1;
  for (uint64_t i = 0; i < count; ++i) {
    x = 3.75L * x * (1 - x);
    root = __builtin_sqrtl(root + x);
    fraction = 1 + 1 / (fraction + root);
  }
  const long double sum = (x + root + fraction) * 0x1p40L;
  return static_cast<uint64_t>(sum * 0x1p20L);
}

uint64_t RunLibm(uint64_t count) {
  double sum = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const double x = static_cast<double>(i % 10007) * 0.01;
    sum += std::sin(x) + std::exp(-x) + std::pow(x + 0.5, 1.7);
  }
  return std::bit_cast<uint64_t>(sum);
}

constexpr Row kRows[] = {
    {"nbody", nullptr, RunNbody, 800'000},       {"mandelbrot", nullptr, RunMandelbrot, 90},
    {"matrix", PrepareMatrices, RunMatrix, 150}, {"x87", nullptr, RunX87, 6'000'000},
    {"libm", nullptr, RunLibm, 2'400'000},
};

}  // namespace

int main(int argc, char** argv) {
  return RunRows(argc, argv, kRows);
}
