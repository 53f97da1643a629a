// A 16550 and a driver's view of it, for the tests.
#pragma once

#include <string>

#include "../support/fakes.h"
#include "legacy-devices/uart16550.h"

namespace fakes {

using legacy::Uart16550;
using legacy::uart16550::IIR;
using legacy::uart16550::Reg;

// A port with a driver's view of it.
struct Port {
  FakeIrqLine irq;
  FakeCharBackend backend;
  FakeTime time;
  Uart16550 uart{"serial0", irq, backend, time, time};

  uint8_t In(Reg reg) { return static_cast<uint8_t>(fakes::In(uart, static_cast<uint64_t>(reg))); }
  void Out(Reg reg, unsigned value) { fakes::Out(uart, static_cast<uint64_t>(reg), value); }
  IIR Identify() { return static_cast<IIR>(In(Reg::IIR) & 0x0F); }

  // 115200 8N1, FIFOs on with the given trigger bits, receiver interrupt on, wired to the bus.
  void Open(unsigned trigger = 0x80) {
    Out(Reg::LCR, 0x83);
    Out(Reg::DLL, 1);
    Out(Reg::DLM, 0);
    Out(Reg::LCR, 0x03);
    Out(Reg::FCR, trigger | 0x07);
    Out(Reg::MCR, 0x0B);
    Out(Reg::IER, 0x01);
  }
  std::string ReadAll() {
    std::string got;
    while (In(Reg::LSR) & 0x01) got += static_cast<char>(In(Reg::RBR));
    return got;
  }
};

}  // namespace fakes
