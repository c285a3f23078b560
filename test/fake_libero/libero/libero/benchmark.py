from typing import NamedTuple

NAMES = {
    'libero_spatial': ('pick_up_the_bowl', 'open_the_drawer'),
    'libero_object': ('pick_up_the_soup',),
    'libero_goal': ('turn_on_the_stove',),
    'libero_10': ('KITCHEN_SCENE3_turn_on_the_stove',),
    'libero_90': ('STUDY_SCENE10_pick_up_the_book',),
}


class Task(NamedTuple):
    name: str
    language: str
    problem: str
    problem_folder: str
    bddl_file: str
    init_states_file: str


class Suite:
    def __init__(self, name):
        self._tasks = [self._task(name, task) for task in NAMES[name]]

    @staticmethod
    def _task(suite, name):
        words = name.split('_')
        language = ' '.join(words[2:] if name[0].isupper() else words)
        return Task(name, language, 'Libero', suite, f'{name}.bddl', f'{name}.pruned_init')

    def get_num_tasks(self):
        return len(self._tasks)

    def get_task(self, index):
        return self._tasks[index]


def get_benchmark_dict():
    return {name: lambda name=name: Suite(name) for name in NAMES}
