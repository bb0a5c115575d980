"""For each recipe, its files with a few rows each, in exactly the layout that the data set has."""

from tests.support.fetching import Content

_PAIR = [{"sentence1": "借呗怎么还款", "sentence2": "借呗如何还钱", "score": 1, "idx": 0}]
_PAIR += [{"sentence1": "花呗怎么开通", "sentence2": "花呗怎么关闭", "score": 0, "idx": 1}]
_STS: dict[str, Content] = {"data/train-00000-of-00001-8cb4ee1ac5a2d2b0.parquet": _PAIR}
_CPR_QRELS = [["1", "0", "11", "1"], ["2", "0", "12", "1"]]
_NLI = [
    {"sentence1": "他在跑", "sentence2": "他在运动", "label": 1, "idx": 0},
    {"sentence1": "他在跑", "sentence2": "他在睡觉", "label": 2, "idx": 1},
    {"sentence1": "他在跑", "sentence2": "天气很好", "label": 0, "idx": 2},
]
_TRIPLET = [{"anchor": "A man runs.", "positive": "Somebody moves.", "negative": "He sleeps."}]
_REVIEWS: dict[str, Content] = {
    "data/train-00000-of-00001.parquet": [{"text": "很好吃", "label": 1}, {"text": "太慢了", "label": 0}]
}
_PASSAGES = [
    {
        "query_id": "q1",
        "query": "世界上最大的湖",
        "positive_passages": [{"docid": "p1", "text": "里海是最大的湖"}],
        "negative_passages": [{"docid": "p2", "text": "长江很长"}, {"docid": "p3", "text": "黄河很黄"}],
    }
]
_RLHN = [
    {
        "query_id": "5f4d",
        "query": "who wrote it",
        "positive_passages": [{"docid": "a", "text": "Ann wrote it", "title": ""}],
        "negative_passages": [{"docid": "b", "text": "Nobody knows", "title": "A"}],
        "subset": "fever",
    }
]
_F2LLM = [
    {
        "query": "Instruct: Given a question, find the answer \n Query: what is it?",
        "passage": "it is this",
        "negative_1": "it is that",
        "negative_2": "it was",
    }
]
_SIMCLUE = {"query": "胡子长得太快怎么办？", "title": "胡子长得快怎么办？"}


def _multi_cpr(domain: str, corpus: dict[str, Content]) -> dict[str, Content]:
    folder = f"data/{domain}"
    return {
        **{f"{folder}/{name}": rows for name, rows in corpus.items()},
        f"{folder}/train.query.txt": [["1", "尼康z62"], ["2", "海神"]],
        f"{folder}/qrels.train.tsv": _CPR_QRELS,
        f"{folder}/dev.query.txt": [["9", "not for training"]],
        f"{folder}/qrels.dev.tsv": [["9", "0", "11", "1"]],
    }


_CORPUS = [["11", 'Nikon/尼康 Z62 "套机"'], ["12", "海上女神妈祖"], ["13", "别的"]]

MINIATURES: dict[str, dict[str, Content]] = {
    **dict.fromkeys(("afqmc", "atec", "bq", "lcqmc", "pawsx_zh", "stsb_zh", "stsb_en"), _STS),
    "all_nli": {
        "triplet/train-00000-of-00001.parquet": _TRIPLET,
        "triplet/dev-00000-of-00001.parquet": _TRIPLET,
    },
    "quora_pairs": {"pair/train-00000-of-00001.parquet": _TRIPLET},
    "quora_triplets": {"triplet/train-00000-of-00001.parquet": _TRIPLET},
    "bge_m3": {
        "bge-m3-data/MSMARCO/msmarco_len-0-500.jsonl": [
            {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [0.9], "neg_scores": [0.1]}
        ],
        "bge-m3-data/NLI/nli_len-0-500.jsonl": [{"query": "q2", "pos": ["p2", "p3"], "neg": []}],
    },
    "cmedqa2": {
        "raw/question.csv": [["question_id", "content"], ["1", "头痛,怎么办?"], ["2", "失眠\n很久"]],
        "raw/answer.csv": [
            ["ans_id", "question_id", "content"],
            ["7", "1", "多休息"],
            ["8", "2", '"睡前"散步'],
        ],
        "raw/train_candidates.txt": [
            ["question_id", "pos_ans_id", "neg_ans_id"],
            ["1", "7", "8"],
            ["1", "7", "9"],
        ],
    },
    "cmnli": {"cmnli/train-00000-of-00001.parquet": _NLI},
    "ocnli": {"ocnli/train-00000-of-00001.parquet": _NLI},
    "dureader_retrieval": {"train.jsonl.gz": _PASSAGES, "dev.jsonl.gz": _PASSAGES},
    "f2llm": {"fever.parquet": _F2LLM},
    "mmarco_zh": {
        "data/google/collections/chinese_collection.tsv": [["0", "曼哈顿计划"], ["1", "别的"]],
        "data/google/queries/train/chinese_queries.train.tsv": [["121352", "什么是计划"]],
        "data/triples.train.ids.small.tsv": [["121352", "0", "1"]],
    },
    "mmarco_zh_scored": {
        "chinese-hard-negatives/train-00000-of-00002.parquet": [
            {
                "query": "q",
                "pos_text": "p",
                "negs_text": ["n"],
                "negs_count": 1,
                "pos_score": 0.9,
                "negs_score": [0.2],
            }
        ],
        "chinese-hard-negatives-7/train-00000-of-00001.parquet": [{"query": "other", "positive": "layout"}],
    },
    "msmarco": {"triplet/train-00000-of-00002.parquet": [{"query": "q", "positive": "p", "negative": "n"}]},
    "multi_cpr_ecom": _multi_cpr("ecom", {"corpus.tsv": _CORPUS}),
    "multi_cpr_video": _multi_cpr("video", {"corpus.tsv": _CORPUS}),
    "multi_cpr_medical": _multi_cpr(
        "medical", {"corpus_split_1.tsv": _CORPUS[:2], "corpus_split_2.tsv": _CORPUS[2:]}
    ),
    "natural_questions": {"pair/train-00000-of-00001.parquet": [{"query": "who", "answer": "she"}]},
    "qbqtc": {"dataset/train.json": [{"id": 0, "query": "小孩咳嗽", "title": "咳嗽吃什么药", "label": "1"}]},
    "rlhn": {"data/train-00000-of-00040.parquet": _RLHN},
    "simclue_pairs": {"simclue_public/train_pair_postive.json": [_SIMCLUE]},
    "simclue_triplets": {"simclue_public/train_rank.json": [_SIMCLUE | {"neg_title": "怎样使胡子不浓密！"}]},
    "t2ranking": {
        "data/collection.tsv": [["pid", "text"], ["0", "甲"], ["1", "乙"], ["2", "丙"], ["3", "丁"]],
        "data/queries.train.tsv": [["qid", "text"], ["100", "问"]],
        "data/qrels.train.tsv": [
            ["qid", "-", "pid", "rel"],
            *(["100", "0", str(n), str(n)] for n in range(4)),
        ],
    },
    "tnews": {"tnews/train-00000-of-00001.parquet": [{"sentence": "上课时学生手机响", "label": 7, "idx": 0}]},
    "waimai": _REVIEWS,
    "online_shopping": _REVIEWS,
}
