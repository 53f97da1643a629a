// A line of text that is put together from parts, without allocation; what is too long is cut.
#pragma once

#include <cstdarg>
#include <cstdio>

namespace guest_init {

class Text {
 public:
  __attribute__((format(printf, 2, 3))) explicit Text(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text_, sizeof text_, format, arguments);
    va_end(arguments);
  }
  const char* c_str() const { return text_; }

 private:
  char text_[1000];
};

}  // namespace guest_init
