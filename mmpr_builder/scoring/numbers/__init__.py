"""Numbers by themselves: plain numbers, units and money, quantities, ratios, times and dates."""
