import pytest

from voxkit.data.executors import open_executor


@pytest.mark.parametrize("options", [{"jobs": 1}, {"jobs": 2}, {"jobs": 2, "threads": True}])
def test_this_machine(options):
    with open_executor(**options) as executor:
        assert list(executor.map(abs, [-1, 2, -3])) == [1, 2, 3]


def test_bad_options():
    with pytest.raises(ValueError, match="jobs 0"):
        with open_executor(0):
            pass


def test_a_dask_cluster_makes_the_toy_corpus(tmp_path):
    pytest.importorskip("espeakng_loader")
    distributed = pytest.importorskip("distributed")
    from voxkit.data.corpora.toy import ToyConfig, prepare_toy

    config = ToyConfig(num_train=4, num_dev=2, num_test=2, num_domain=2)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        report = prepare_toy(tmp_path / "dask", config, dask=cluster.scheduler_address).reports
    prepare_toy(tmp_path / "here", config, jobs=1)
    assert report["train"].kept == 4
    for path in (tmp_path / "here").rglob("*.flac"):
        assert path.read_bytes() == (tmp_path / "dask" / path.relative_to(tmp_path / "here")).read_bytes()


def test_no_scheduler_is_said(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def refuse(*_, **__):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(ValueError, match="no Dask scheduler answers at tcp://nowhere:1"):
        with open_executor(dask="tcp://nowhere:1"):
            pass
