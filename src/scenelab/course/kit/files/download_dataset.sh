#!/usr/bin/env bash
# Downloads MiniPlaces into ./data; run it again after a break, it continues where it stopped.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p data && cd data
[ -e unpacked ] || {
  curl --fail --location --continue-at - --output data.tar.gz https://places.csail.mit.edu/miniplaces/data/data.tar.gz ||
    curl --fail --location --continue-at - --output data.tar.gz http://miniplaces.csail.mit.edu/data/data.tar.gz
  tar -xzf data.tar.gz
  touch unpacked
  rm data.tar.gz
}
for list in train.txt val.txt categories.txt object_categories.txt; do
  [ -s "$list" ] || curl --fail --location --output "$list" \
    "https://raw.githubusercontent.com/CSAILVision/miniplaces/master/data/$list"
done
echo "MiniPlaces is in data/"
