"""Configurations: bases, overrides, and errors that name the key and what is valid."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest
from omegaconf import OmegaConf

from voxkit import config
from voxkit.config import ConfigError, load, load_plain, merge, save, structure


@dataclass
class Adapter:
    dim: int = 512
    dropout: float = 0.1

    def problems(self):
        return [] if 0 <= self.dropout < 1 else [f"dropout: {self.dropout} is not in [0, 1)"]


@dataclass
class Model:
    name: str = "wavlm"
    layers: list[int] = field(default_factory=lambda: [1, 2])
    adapter: Adapter = field(default_factory=Adapter)
    extra: Adapter | None = None
    options: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None

    def problems(self):
        return [] if self.layers else ["layers: none named"]


def write(folder, **files):
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class TestLoad:
    def test_a_chain_of_bases_overlays(self, tmp_path):
        write(tmp_path, a="x: 1\ny: {u: 1, v: 1}\n", b="base: a.yaml\ny: {v: 2}\n", c="base: b.yaml\nx: 3\n")
        assert config.load(tmp_path / "c.yaml") == {"x": 3, "y": {"u": 1, "v": 2}}

    def test_several_bases_lay_left_to_right(self, tmp_path):
        write(tmp_path, a="x: 1\ny: 1\n", b="y: 2\nz: 2\n", c="base: [a.yaml, b.yaml]\nz: 3\n")
        assert config.load(tmp_path / "c.yaml") == {"x": 1, "y": 2, "z": 3}

    def test_bases_are_relative_to_the_file_that_names_them(self, tmp_path, monkeypatch):
        (tmp_path / "deep").mkdir()
        write(tmp_path, a="x: 1\n")
        write(tmp_path / "deep", b="base: ../a.yaml\ny: 2\n")
        monkeypatch.chdir(tmp_path.parent)
        assert config.load(tmp_path / "deep/b.yaml") == {"x": 1, "y": 2}

    def test_overrides_come_last_and_are_yaml(self, tmp_path):
        write(tmp_path, a="x: {y: 1}\n")
        found = config.load(tmp_path / "a.yaml", ["x.y=2.5", "x.z=[1, 2]", "on=true", "none=null", "word=a b", "rate=1e-4", "eq=a=b"])
        assert found == {"x": {"y": 2.5, "z": [1, 2]}, "on": True, "none": None, "word": "a b", "rate": 1e-4, "eq": "a=b"}

    def test_circle(self, tmp_path):
        write(tmp_path, a="base: b.yaml\n", b="base: a.yaml\n")
        with pytest.raises(ConfigError, match="a.yaml → b.yaml"):
            config.load(tmp_path / "a.yaml")

    def test_missing_file_names_what_is_there(self, tmp_path):
        write(tmp_path, stage1="x: 1\n", b="base: stage7.yaml\n")
        with pytest.raises(ConfigError, match=r"stage7\.yaml, named as base by .*b\.yaml; there are: b\.yaml, stage1\.yaml"):
            config.load(tmp_path / "b.yaml")

    @pytest.mark.parametrize("text, what", [("- 1\n- 2\n", "expected a mapping"), ("x: [1\n", "not readable as YAML")])
    def test_what_is_no_configuration(self, tmp_path, text, what):
        write(tmp_path, a=text)
        with pytest.raises(ConfigError, match=what):
            config.load(tmp_path / "a.yaml")

    def test_an_override_without_a_value(self, tmp_path):
        write(tmp_path, a="x: 1\n")
        with pytest.raises(ConfigError, match="'train.lr'.*key=value"):
            config.load(tmp_path / "a.yaml", ["train.lr"])


class TestStructure:
    def test_defaults(self):
        assert config.structure(Model, None) == Model()

    def test_values_are_converted_to_the_types_declared(self):
        node = {"layers": ["3"], "adapter": {"dropout": "0.5"}, "extra": {"dim": 8}, "options": {"a": [1]}, "limit": 4}
        found = config.structure(Model, node)
        assert found == Model(layers=[3], adapter=Adapter(dropout=0.5), extra=Adapter(dim=8), options={"a": [1]}, limit=4)
        assert isinstance(found.extra, Adapter)

    def test_from_a_loaded_file_with_interpolation(self, tmp_path):
        write(tmp_path, a="limit: 7\nadapter: {dim: '${limit}'}\n")
        assert config.structure(Model, config.load(tmp_path / "a.yaml")).adapter.dim == 7

    @pytest.mark.parametrize("node, where, near", [
        ({"adaptor": {}}, "model.adaptor", "adapter"), ({"adapter": {"drop_out": 0}}, "model.adapter.drop_out", "dropout"),
        ({"extra": {"dims": 0}}, "model.extra.dims", "dim"),
    ])
    def test_an_unknown_key_names_the_nearest_and_all(self, node, where, near):
        with pytest.raises(ConfigError) as error:
            config.structure(Model, node, "model")
        assert str(error.value).startswith(f"{where}: no such option; did you mean '{near}'?")
        assert "Valid: " in str(error.value)

    def test_all_unknown_keys_together(self):
        with pytest.raises(ConfigError) as error:
            config.structure(Model, {"a": 1, "adapter": {"b": 2}})
        assert "2 problems" in str(error.value) and "config.a:" in str(error.value) and "config.adapter.b:" in str(error.value)

    def test_all_problems_together(self):
        with pytest.raises(ConfigError) as error:
            config.structure(Model, {"layers": [], "adapter": {"dropout": 2}, "extra": {"dropout": -1}}, "model")
        text = str(error.value)
        assert "3 problems" in text
        assert "model.layers: none named" in text and "model.adapter.dropout: 2" in text and "model.extra.dropout: -1" in text

    @pytest.mark.parametrize("node, key", [
        ({"adapter": {"dim": "wide"}}, "model.adapter.dim"), ({"layers": 3}, "model"), ({"name": [1]}, "model.name"),
    ])
    def test_a_wrong_type_names_the_key(self, node, key):
        with pytest.raises(ConfigError, match=key):
            config.structure(Model, node, "model")

    def test_nothing_is_an_empty_text_where_that_is_the_default(self):
        @dataclass
        class Setup:
            tokenizer: str = ""
            name: str = "run"
            limit: int | None = 3

        assert config.structure(Setup, config.merge(config.OmegaConf.create({}), ["tokenizer=", "limit=null"])) == Setup(limit=None)
        with pytest.raises(ConfigError, match="config.name"):
            config.structure(Setup, {"name": None})

    def test_a_value_where_options_belong(self):
        with pytest.raises(ConfigError, match="model.adapter: expected a mapping"):
            config.structure(Model, {"adapter": 3}, "model")


class TestSave:
    def test_round_trip_of_a_dataclass(self, tmp_path):
        model = Model(layers=[4], extra=Adapter(dim=9), options={"a": {"b": 1}})
        config.save(model, tmp_path / "new/config.yaml")
        assert config.structure(Model, config.load(tmp_path / "new/config.yaml")) == model

    def test_every_default_survives(self, tmp_path):
        config.save(Model(), tmp_path / "a.yaml")
        assert dataclasses.asdict(config.structure(Model, config.load(tmp_path / "a.yaml"))) == dataclasses.asdict(Model())


class TestPlain:
    """A configuration that came with a checkpoint is data."""

    @pytest.mark.parametrize("text", ["model: {name: '${oc.env:SECRET}'}", "a: 1\nb: ['x', '${a}']", "name: ${oc.env:HOME,x}",
                                      "a: {b: [{c: 'pre ${oc.decode:1} post'}]}"])
    def test_reaching_into_the_machine_is_refused(self, tmp_path, monkeypatch, text):
        monkeypatch.setenv("SECRET", "hunter2")
        with pytest.raises(ConfigError, match=r"plain data, and \$\{...\} would be filled in") as error:
            load_plain(write(tmp_path, config=text) / "config.yaml")
        assert "hunter2" not in str(error.value)

    @pytest.mark.parametrize("base", ["/etc/passwd", "other.yaml", "[a.yaml, b.yaml]"])
    def test_reaching_into_another_file_is_refused(self, tmp_path, base):
        write(tmp_path, other="secret: 1")
        with pytest.raises(ConfigError, match="base: .* names another file") as error:
            load_plain(write(tmp_path, config=f"base: {base}\na: 1") / "config.yaml")
        assert "root:" not in str(error.value)

    def test_what_save_writes_is_plain(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WHERE", "there")
        path = write(tmp_path, a="where: ${oc.env:WHERE}\ncopy: ${where}") / "a.yaml"
        save(load(path), tmp_path / "config.yaml")
        found = load_plain(tmp_path / "config.yaml", ["where=elsewhere"])
        assert found == {"where": "elsewhere", "copy": "there"}


class TestNumbers:
    @pytest.mark.parametrize("options", ["optimizer: {lr: .nan}", "optimizer: {lr: .inf}", "clip_grad: .nan", "max_hours: -.inf",
                                         "optimizer: {betas: [0.9, .nan]}", "schedule: {lr_epochs: .nan}", "average: {decay: .nan}",
                                         "remedies: {divergence_factor: .inf}", "groups: [{pattern: a, lr_scale: .nan}]"])
    def test_nan_and_infinity_are_no_values_of_options(self, options):
        from voxkit.train.config import TrainConfig

        with pytest.raises(ConfigError, match="is no number"):
            structure(TrainConfig, OmegaConf.create(options), "train")

    @pytest.mark.parametrize("override", ["train.optimizer.lr=nan", "train.optimizer.lr=.nan", "train.optimizer.lr=inf",
                                          "data.max_seconds=nan", "model.dropout=.nan", "decode.lm_weight=nan", "decode.length_limit=nan"])
    def test_nor_on_the_command_line(self, override):
        from voxkit.run_config import make_setup

        with pytest.raises(ConfigError, match=override.split("=")[0]):
            make_setup(merge(OmegaConf.create({}), [override]))

    def test_infinity_where_an_option_says_so(self):
        from voxkit.run_config import make_setup

        assert make_setup(merge(OmegaConf.create({}), ["decode.length_limit=.inf"])).config.decode.length_limit == float("inf")
