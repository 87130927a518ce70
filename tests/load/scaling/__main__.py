import dataclasses, json, sys
from tests.load.scaling import measure
if __name__ == "__main__":
    sizes = measure.QUICK if "--quick" in sys.argv else measure.Sizes()
    g = measure.measure(sizes)
    json.dump(dataclasses.asdict(g), open(sys.argv[1], "w"), indent=1)
