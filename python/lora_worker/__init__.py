"""The torch half of lorac: trains, samples and decomposes LoRAs for the CLI, which speaks to it over a pipe."""
