"""What bf16 can bring at most."""

from smalldata_vit.bench import products
from smalldata_vit.bench.harness import Contender, Row, Table


def test_the_products_are_counted_as_those_of_a_layer_forward_and_back(monkeypatch) -> None:
    monkeypatch.setattr(products, "has_bf16", lambda: False)
    seen: list[Contender] = []

    def compared(title: str, contenders: list[Contender], rounds: int, unit: str) -> Table:
        seen.extend(contenders)
        return Table(title, unit, "", rounds, [Row("", 1, 0, 1, 0)])

    monkeypatch.setattr(products, "compared", compared)
    products.table(1)
    once = 6 * products.ROWS * products.WIDTH * products.HIDDEN / 1e9
    turns = seen[0].turn().images / once
    assert [contender.name for contender in seen] == ["product, float32"]
    assert abs(turns - round(turns)) < 1e-9
