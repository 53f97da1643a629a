// Register map of the 16550A UART. [16550] 8.0, Table II
#pragma once

#include <cstdint>

namespace legacy::uart16550 {

// Byte offsets from the base port.
enum class Reg : uint8_t {
  RBR = 0,  // read, DLAB = 0: receiver buffer
  THR = 0,  // write, DLAB = 0: transmitter holding
  IER = 1,  // DLAB = 0: interrupt enable
  DLL = 0,  // DLAB = 1: divisor latch, least significant byte
  DLM = 1,  // DLAB = 1: divisor latch, most significant byte
  IIR = 2,  // read: interrupt identification
  FCR = 2,  // write: FIFO control
  LCR = 3,  // line control
  MCR = 4,  // modem control
  LSR = 5,  // line status
  MSR = 6,  // modem status
  SCR = 7,  // scratch
};
inline constexpr uint64_t kRegisterCount = 8;

// Interrupt enable. [16550] 8.6
enum class IER : uint8_t {
  ERBFI = 0x01,  // received data available, character time-out
  ETBEI = 0x02,  // transmitter holding register empty
  ELSI = 0x04,   // receiver line status
  EDSSI = 0x08,  // modem status
};
inline constexpr uint8_t kIerMask = 0x0F;

// Interrupt identification: one source, the highest in priority. [16550] 8.5, Table IV
enum class IIR : uint8_t {
  ModemStatus = 0x00,
  NoInterrupt = 0x01,
  ThrEmpty = 0x02,
  ReceivedDataAvailable = 0x04,
  ReceiverLineStatus = 0x06,
  CharacterTimeout = 0x0C,
};
inline constexpr uint8_t kIirFifosEnabled = 0xC0;

// FIFO control. [16550] 8.4
enum class FCR : uint8_t {
  FifoEnable = 0x01,
  RcvrFifoReset = 0x02,  // clears itself
  XmitFifoReset = 0x04,  // clears itself
  DmaModeSelect = 0x08,
  RcvrTriggerLsb = 0x40,
  RcvrTriggerMsb = 0x80,
};
inline constexpr uint8_t kFcrStored = 0xC9;   // the bits that last
inline constexpr uint8_t kFcrTrigger = 0xC0;  // 00: 1 byte, 01: 4, 10: 8, 11: 14
inline constexpr uint8_t kFifoDepth = 16;

// Line control. [16550] 8.1
enum class LCR : uint8_t {
  WLS0 = 0x01,  // word length: 5 bits + WLS
  WLS1 = 0x02,
  STB = 0x04,  // two stop bits
  PEN = 0x08,  // parity enable
  EPS = 0x10,  // even parity
  StickParity = 0x20,
  SetBreak = 0x40,
  DLAB = 0x80,  // divisor latch access
};
inline constexpr uint8_t kLcrWordLength = 0x03;

// Modem control. [16550] 8.7
enum class MCR : uint8_t {
  DTR = 0x01,
  RTS = 0x02,
  OUT1 = 0x04,
  OUT2 = 0x08,  // a PC lets the interrupt pin reach the bus only while this is set
  LOOP = 0x10,
};
inline constexpr uint8_t kMcrMask = 0x1F;

// Line status. [16550] 8.3
enum class LSR : uint8_t {
  DR = 0x01,    // data ready
  OE = 0x02,    // overrun error
  PE = 0x04,    // parity error
  FE = 0x08,    // framing error
  BI = 0x10,    // break interrupt
  THRE = 0x20,  // transmitter holding register empty
  TEMT = 0x40,  // transmitter empty
  ErrorInRcvrFifo = 0x80,
};
inline constexpr uint8_t kLsrErrors = 0x1E;      // what reading LSR clears
inline constexpr uint8_t kLsrByteErrors = 0x1C;  // of these, what belongs to one received byte

// Modem status: the inputs, and which of them changed since the last read. [16550] 8.8
enum class MSR : uint8_t {
  DCTS = 0x01,
  DDSR = 0x02,
  TERI = 0x04,  // trailing edge of RI
  DDCD = 0x08,
  CTS = 0x10,
  DSR = 0x20,
  RI = 0x40,
  DCD = 0x80,
};
inline constexpr uint8_t kMsrDeltas = 0x0F;
inline constexpr uint8_t kMsrInputs = 0xF0;

// The baud generator divides a PC's 1.8432 MHz by 16 × the divisor latch. [16550] 8.2
inline constexpr uint32_t kClockHz = 1'843'200;

}  // namespace legacy::uart16550
