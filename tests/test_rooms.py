"""Keeps the rooms of the source tree: which there are, how full they are, and that imports go one way."""

import pytest

from tests.rooms import PACKAGES, ROOT, arrows_of, circles_of, rooms_of

# Each room of a top-level folder may import those before it and none after it.
ORDER = {
    "actors": "databases demo engine records questions sources layouts prompting rollout_actor",
    "cluster": (
        "messages plugins databases waits pip_settings contained environment machine run_folder models loop "
        "memory_plan health tracking time_plan terminal preparation other_trainers questions ray_actors evaluation "
        "endpoints precision exports graph_training report_page checkpoints preflight benchmark_table traces training "
        "bench ablation operations api commands cli docs_site soak prove record"
    ),
    "configs": "errors model_families quick_imports plugins sections schema files",
    "learner": (
        "adapter custom_gradient device_kind optimizer warm_start_progress families packing loss policy step_meter "
        "equality family_plugin supervised_batches answer_groups supervised_term grpo_learner supervised learner_actor"
    ),
    "reward_service": (
        "bounded_cache verdict sql_text unscorable graph comparison judge gold sandbox reading designs scorer "
        "scorer_pool"
    ),
}
MAX_FILES = 20  # of a room; one with sub-folders may have as many in each
# What measures floe or proves it; only the command line leads there.
BESIDE_PRODUCTION = ("bench", "soak", "prove", "ablation", "graph_training", "docs_site", "record")
LEADS_THERE = ("operations", "commands", "cli", *BESIDE_PRODUCTION)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_its_place_in_the_order_and_imports_go_one_way(package):
    rooms = rooms_of(package)
    order = [f"{package}/{name}" for name in ORDER[package].split()]
    assert sorted(order) == sorted(rooms)
    upwards = [arrow for arrow in arrows_of(rooms) if order.index(arrow[1]) > order.index(arrow[0])]
    assert not upwards
    assert not circles_of(arrows_of(rooms))


def test_production_does_not_import_what_measures_it():
    arrows = arrows_of(rooms_of("cluster"))
    names = [tuple(room.removeprefix("cluster/") for room in arrow) for arrow in arrows]
    assert not [one for one in names if one[1] in BESIDE_PRODUCTION and one[0] not in LEADS_THERE]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_is_a_drawer_and_each_says_what_it_is_for(package):
    for folder in sorted({path.parent for files in rooms_of(package).values() for path in files}):
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MAX_FILES, f"{folder.relative_to(ROOT)} has {len(files)} files"
        about = (folder / "__init__.py").read_text(encoding="utf-8")
        assert about.startswith('"""'), f"{folder.relative_to(ROOT)} does not say what it is for"


def test_a_circle_and_an_arrow_are_found(tmp_path):
    for name, text in (
        ("a/one.py", "from floe.x.b.two import B"),
        ("b/two.py", "from floe.x import loose"),
        ("loose.py", ""),
    ):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text(text)
    rooms = rooms_of("x", tmp_path)
    assert arrows_of(rooms) == {("x/a", "x/b"), ("x/b", "x/loose")}
    assert circles_of(arrows_of(rooms)) == []
    assert circles_of({("x/a", "x/b"), ("x/b", "x/c"), ("x/c", "x/a"), ("x/c", "x/d")}) == [{"x/a", "x/b", "x/c"}]
