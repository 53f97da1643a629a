#include "vmm/machine/statistics_table.h"

#include <catch2/catch.hpp>

using vmm::Statistics;

TEST_CASE("statistics are a table with a column for each vCPU and their total", "[machine]") {
  const Statistics cpu0{{"exits", 30}, {"exits per million", 30, 1'000'000, 1'000'000}};
  const Statistics cpu1{{"exits", 12}, {"exits per million", 12, 5'000'000, 1'000'000}};
  SECTION("the total of a ratio is the ratio of the sums") {
    const Statistics both[] = {cpu0, cpu1};
    CHECK(vmm::StatisticsTable("bt", both) ==
          "statistics of bt            CPU 0           CPU 1           total\n"
          "exits                          30              12              42\n"
          "exits per million          30.000           2.400           7.000\n");
  }
  SECTION("of one vCPU there is the total alone") {
    const Statistics one[] = {cpu0};
    CHECK(vmm::StatisticsTable("kvm", one) ==
          "statistics of kvm           total\n"
          "exits                          30\n"
          "exits per million          30.000\n");
  }
  SECTION("a ratio to nothing is 0") {
    const Statistics none[] = {{{"exits per million", 30, 0, 1'000'000}}};
    CHECK(vmm::StatisticsTable("bt", none) ==
          "statistics of bt            total\n"
          "exits per million           0.000\n");
  }
  SECTION("an engine that tells nothing has no table") {
    const Statistics empty[] = {{}};
    CHECK(vmm::StatisticsTable("bt", empty).empty());
  }
}
