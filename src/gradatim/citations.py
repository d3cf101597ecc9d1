"""The papers behind the parts, and BibTeX of exactly those you composed.

A method or part names its papers in a class attribute ``references``, a tuple of keys of
`REFERENCES` (or, outside this library, of `Reference` objects). `cite` collects them.
"""

from __future__ import annotations

import dataclasses
import difflib
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

from gradatim.validation import refusal

__all__ = ["REFERENCES", "Reference", "cite"]

Kind = Literal["inproceedings", "article", "misc"]

_VENUE_FIELD = {"inproceedings": "booktitle", "article": "journal", "misc": "howpublished"}

# The letters after the backslash that set an accent in TeX, by combining character.
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0306": "u"}
_ACCENTS |= {"\u0308": '"', "\u030c": "v", "\u0327": "c"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    r"""One paper, in parts, ready for a bibliography.

    Args:
        key: what it is cited by, as ``kumar2010``; letters, digits, hyphens.
        authors: one string each, "Family, Given", in the paper's order.
        title: as printed, without markup.
        venue: conference, journal or archive, in words.
        year: of publication.
        kind: BibTeX's entry type.
        pages: "first-last", or empty where we do not know them for certain.

    Example:
        >>> reference = Reference(
        ...     key="doe2020", authors=("Doe, Jané",), title="On Order", venue="Letters", year=2020,
        ...     kind="article")
        >>> print(reference.bibtex())
        @article{doe2020,
          author = {Doe, Jan{\'e}},
          title = {{On Order}},
          journal = {Letters},
          year = {2020},
        }
    """

    key: str
    authors: tuple[str, ...]
    title: str
    venue: str
    year: int
    kind: Kind = "inproceedings"
    pages: str = ""

    def bibtex(self) -> str:
        r"""Write the paper as one BibTeX entry, in ASCII, its title's capitals protected.

        Returns:
            Several lines without a line break at the end.

        Example:
            >>> print(REFERENCES["wu2021"].bibtex())
            @inproceedings{wu2021,
              author = {Wu, Xiaoxia and Dyer, Ethan and Neyshabur, Behnam},
              title = {{When Do Curricula Work?}},
              booktitle = {International Conference on Learning Representations (ICLR)},
              year = {2021},
            }
        """
        fields = {
            "author": " and ".join(map(_tex, self.authors)),
            "title": "{" + _tex(self.title) + "}",
            _VENUE_FIELD[self.kind]: _tex(self.venue),
            "year": str(self.year),
            "pages": self.pages.replace("-", "--"),
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def cite(*objects: Any) -> str:
    """Write the BibTeX of the papers behind what you composed, each once.

    Give it a whole curriculum, or its methods and parts, or keys. An object's own papers come
    first, then those of its methods or of the parts that it holds (the pace inside a predefined
    curriculum), in the order in which they were given. What rests on no paper adds nothing.

    Args:
        objects: curricula, methods, parts, classes or functions with an attribute ``references``,
            `Reference` objects, or keys of `REFERENCES`.

    Returns:
        BibTeX entries, a blank line between them; empty if nothing is to be cited.

    Raises:
        ValueError: an unknown key, or ``references`` that are no tuple.

    Example:
        >>> print(cite("kumar2010", "kumar2010"))
        @inproceedings{kumar2010,
          author = {Kumar, M. Pawan and Packer, Benjamin and Koller, Daphne},
          title = {{Self-Paced Learning for Latent Variable Models}},
          booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
          year = {2010},
          pages = {1189--1197},
        }
        >>> class Slow:
        ...     references = ("bengio2009", "wu2021")
        >>> cite(Slow()).count("@inproceedings")
        2
        >>> cite("kumar2011")
        Traceback (most recent call last):
        ValueError: references must be keys of gradatim.citations.REFERENCES. Got 'kumar2011'. ...
        >>> cite()
        ''
    """
    found: dict[str, Reference] = {}
    seen: set[int] = set()
    for thing in objects:
        for reference in _collect(thing, seen):
            if found.setdefault(reference.key, reference) != reference:
                cause = "Two different papers under one key: rename one."
                raise refusal("references", "unique by key", repr(reference.key), cause)
    return "\n\n".join(reference.bibtex() for reference in found.values())


def _collect(thing: Any, seen: set[int]) -> Iterator[Reference]:
    """Yield the papers of one object and of what it is composed of; ``seen`` ends cycles."""
    if isinstance(thing, (str, Reference)):
        yield _look_up(thing)
        return
    if id(thing) in seen:
        return
    seen.add(id(thing))
    for key in _declared(thing):
        yield _look_up(key)
    if isinstance(thing, type):
        return
    methods = getattr(thing, "methods", None)
    held = methods if isinstance(methods, (tuple, list)) else _attributes(thing)
    for part in held:
        yield from _collect(part, seen)


def _declared(thing: Any) -> tuple[str | Reference, ...]:
    references = getattr(thing, "references", ())
    if isinstance(references, str):
        owner = thing.__name__ if isinstance(thing, type) else type(thing).__name__
        cause = "A comma missing in a tuple of one?"
        raise refusal(f"{owner}.references", "a tuple of keys", repr(references), cause)
    # Anything else of that name (a table's column, say) is not about papers.
    return references if isinstance(references, tuple) else ()


def _attributes(thing: Any) -> Iterator[Any]:
    """Yield the parts that an object holds: attributes that cite, also inside tuples and lists."""
    values = list(getattr(thing, "__dict__", {}).values())
    slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
    values += [getattr(thing, slot) for slot in slots if hasattr(thing, slot)]
    for value in values:
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if not isinstance(part, (str, Reference)) and _declared(part):
                yield part


def _look_up(key: str | Reference) -> Reference:
    if isinstance(key, Reference):
        return key
    if key in REFERENCES:
        return REFERENCES[key]
    near = difflib.get_close_matches(key, REFERENCES, n=1)
    cause = f"Did you mean {near[0]!r}?" if near else ""
    raise refusal("references", "keys of gradatim.citations.REFERENCES", repr(key), cause)


def _tex(text: str) -> str:
    """Write accented letters and TeX's own signs in plain ASCII."""
    written: list[str] = []
    for character in unicodedata.normalize("NFD", text):
        if character in _ACCENTS:
            accent, letter = _ACCENTS[character], written.pop()
            space = " " if accent.isalpha() else ""
            written.append(f"{{\\{accent}{space}{letter}}}")
        else:
            written.append(f"\\{character}" if character in "&%$#_" else character)
    return "".join(written)


_VENUES: dict[str, tuple[Kind, str]] = {
    "AAAI": ("inproceedings", "AAAI Conference on Artificial Intelligence (AAAI)"),
    "ACMMM": ("inproceedings", "ACM International Conference on Multimedia (ACM MM)"),
    "AISTATS": (
        "inproceedings",
        "International Conference on Artificial Intelligence and Statistics (AISTATS)",
    ),
    "arXiv": ("misc", "arXiv preprint"),
    "CVIU": ("article", "Computer Vision and Image Understanding"),
    "CVPR": ("inproceedings", "IEEE Conference on Computer Vision and Pattern Recognition (CVPR)"),
    "ECIR": ("inproceedings", "European Conference on Information Retrieval (ECIR)"),
    "ICCV": ("inproceedings", "IEEE International Conference on Computer Vision (ICCV)"),
    "ICLR": ("inproceedings", "International Conference on Learning Representations (ICLR)"),
    "ICML": ("inproceedings", "International Conference on Machine Learning (ICML)"),
    "IJCV": ("article", "International Journal of Computer Vision"),
    "IPL": ("article", "Information Processing Letters"),
    "JAIR": ("article", "Journal of Artificial Intelligence Research"),
    "MSN": (
        "inproceedings",
        "International Conference on Mobility, Sensing and Networking (MSN)",
    ),
    "NAACL": (
        "inproceedings",
        "Conference of the North American Chapter of the Association for Computational"
        " Linguistics (NAACL)",
    ),
    "NeurIPS": ("inproceedings", "Advances in Neural Information Processing Systems (NeurIPS)"),
    "PVLDB": ("article", "Proceedings of the VLDB Endowment"),
    "TPAMI": ("article", "IEEE Transactions on Pattern Analysis and Machine Intelligence"),
    "WACV": ("inproceedings", "IEEE Winter Conference on Applications of Computer Vision (WACV)"),
}

# Three lines per paper: key and authors, title, "VENUE YEAR" with pages where they are certain.
_BIBLIOGRAPHY = """
albalak2023odm: Albalak, Alon; Pan, Liangming; Raffel, Colin; Wang, William Yang
Efficient Online Data Mixing For Language Model Pre-Training
arXiv 2023

bengio2009: Bengio, Yoshua; Louradour, Jérôme; Collobert, Ronan; Weston, Jason
Curriculum Learning
ICML 2009, 41-48

castells2020superloss: Castells, Thibault; Weinzaepfel, Philippe; Revaud, Jerome
SuperLoss: A Generic Loss for Robust Curriculum Learning
NeurIPS 2020

croitoru2025lerac: Croitoru, Florinel-Alin; Ristea, Nicolae-Cătălin; Ionescu, Radu Tudor; Sebe, \
Nicu
Learning Rate Curriculum
IJCV 2025

efraimidis2006: Efraimidis, Pavlos S.; Spirakis, Paul G.
Weighted Random Sampling with a Reservoir
IPL 2006, 181-185

ghorbani2019: Ghorbani, Amirata; Zou, James
Data Shapley: Equitable Valuation of Data for Machine Learning
ICML 2019

graves2017: Graves, Alex; Bellemare, Marc G.; Menick, Jacob; Munos, Rémi; Kavukcuoglu, Koray
Automated Curriculum Learning for Neural Networks
ICML 2017, 1311-1320

hacohen2019: Hacohen, Guy; Weinshall, Daphna
On The Power of Curriculum Learning in Training Deep Networks
ICML 2019, 2535-2544

jia2019knn: Jia, Ruoxi; Dao, David; Wang, Boxin; Hubis, Frances Ann; Gurel, Nezihe Merve; Li, Bo; \
Zhang, Ce; Spanos, Costas J.; Song, Dawn
Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms
PVLDB 2019, 1610-1623

jiang2014reranking: Jiang, Lu; Meng, Deyu; Mitamura, Teruko; Hauptmann, Alexander G.
Easy Samples First: Self-paced Reranking for Zero-Example Multimedia Search
ACMMM 2014, 547-556

jiang2014spld: Jiang, Lu; Meng, Deyu; Yu, Shoou-I; Lan, Zhenzhong; Shan, Shiguang; Hauptmann, \
Alexander G.
Self-Paced Learning with Diversity
NeurIPS 2014, 2078-2086

jiang2015spcl: Jiang, Lu; Meng, Deyu; Zhao, Qian; Shan, Shiguang; Hauptmann, Alexander G.
Self-Paced Curriculum Learning
AAAI 2015, 2694-2700

jiang2019selective: Jiang, Angela H.; Wong, Daniel L.-K.; Zhou, Giulio; Andersen, David G.; Dean, \
Jeffrey; Ganger, Gregory R.; Joshi, Gauri; Kaminsky, Michael; Kozuch, Michael; Lipton, Zachary C.; \
Pillai, Padmanabhan
Accelerating Deep Learning by Focusing on the Biggest Losers
arXiv 2019

katharopoulos2018: Katharopoulos, Angelos; Fleuret, François
Not All Samples Are Created Equal: Deep Learning with Importance Sampling
ICML 2018

kool2019: Kool, Wouter; van Hoof, Herke; Welling, Max
Stochastic Beams and Where to Find Them: The Gumbel-Top-k Trick for Sampling Sequences Without \
Replacement
ICML 2019, 3499-3508

kumar2010: Kumar, M. Pawan; Packer, Benjamin; Koller, Daphne
Self-Paced Learning for Latent Variable Models
NeurIPS 2010, 1189-1197

lin2017focal: Lin, Tsung-Yi; Goyal, Priya; Girshick, Ross; He, Kaiming; Dollár, Piotr
Focal Loss for Dense Object Detection
ICCV 2017

mindermann2022rho: Mindermann, Sören; Brauner, Jan M.; Razzak, Muhammed T.; Sharma, Mrinank; \
Kirsch, Andreas; Xu, Winnie; Höltgen, Benedikt; Gomez, Aidan N.; Morisot, Adrien; Farquhar, \
Sebastian; Gal, Yarin
Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt
ICML 2022, 15630-15649

mirzasoleiman2015: Mirzasoleiman, Baharan; Badanidiyuru, Ashwinkumar; Karbasi, Amin; Vondrák, Jan; \
Krause, Andreas
Lazier Than Lazy Greedy
AAAI 2015, 1812-1818

northcutt2021: Northcutt, Curtis G.; Jiang, Lu; Chuang, Isaac L.
Confident Learning: Estimating Uncertainty in Dataset Labels
JAIR 2021, 1373-1411

paul2021: Paul, Mansheej; Ganguli, Surya; Dziugaite, Gintare Karolina
Deep Learning on a Data Diet: Finding Important Examples Early in Training
NeurIPS 2021

penha2020: Penha, Gustavo; Hauff, Claudia
Curriculum Learning Strategies for IR: An Empirical Study on Conversation Response Ranking
ECIR 2020, 699-713

platanios2019: Platanios, Emmanouil Antonios; Stretcu, Otilia; Neubig, Graham; Poczos, Barnabas; \
Mitchell, Tom
Competence-based Curriculum Learning for Neural Machine Translation
NAACL 2019, 1162-1172

qin2024infobatch: Qin, Ziheng; Wang, Kai; Zheng, Zangwei; Gu, Jianyang; Peng, Xiangyu; Xu, \
Zhaopan; Zhou, Daquan; Shang, Lei; Sun, Baigui; Xie, Xuansong; You, Yang
InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning
ICLR 2024

robinson2021: Robinson, Joshua; Chuang, Ching-Yao; Sra, Suvrit; Jegelka, Stefanie
Contrastive Learning with Hard Negative Samples
ICLR 2021

saxena2019: Saxena, Shreyas; Tuzel, Oncel; DeCoste, Dennis
Data Parameters: A New Family of Parameters for Learning a Differentiable Curriculum
NeurIPS 2019, 11095-11105

shrivastava2016: Shrivastava, Abhinav; Gupta, Abhinav; Girshick, Ross
Training Region-based Object Detectors with Online Hard Example Mining
CVPR 2016

sinha2020cbs: Sinha, Samarth; Garg, Animesh; Larochelle, Hugo
Curriculum by Smoothing
NeurIPS 2020, 21653-21664

soviany2021: Soviany, Petru; Ionescu, Radu Tudor; Rota, Paolo; Sebe, Nicu
Curriculum self-paced learning for cross-domain object detection
CVIU 2021

soviany2022survey: Soviany, Petru; Ionescu, Radu Tudor; Rota, Paolo; Sebe, Nicu
Curriculum Learning: A Survey
IJCV 2022

toneva2019: Toneva, Mariya; Sordoni, Alessandro; Tachet des Combes, Remi; Trischler, Adam; Bengio, \
Yoshua; Gordon, Geoffrey J.
An Empirical Study of Example Forgetting during Deep Neural Network Learning
ICLR 2019

wang2021survey: Wang, Xin; Chen, Yudong; Zhu, Wenwu
A Survey on Curriculum Learning
TPAMI 2021

wei2021: Wei, Jerry; Suriawinata, Arief; Ren, Bing; Liu, Xiaoying; Lisovsky, Mikhail; Vaickus, \
Louis; Brown, Charles; Baker, Michael; Nasir-Moin, Mustafa; Tomita, Naofumi; Torresani, Lorenzo; \
Wei, Jason; Hassanpour, Saeed
Learn like a Pathologist: Curriculum Learning by Annotator Agreement for Histopathology Image \
Classification
WACV 2021, 2472-2482

wu2021: Wu, Xiaoxia; Dyer, Ethan; Neyshabur, Behnam
When Do Curricula Work?
ICLR 2021

xie2023doremi: Xie, Sang Michael; Pham, Hieu; Dong, Xuanyi; Du, Nan; Liu, Hanxiao; Lu, Yifeng; \
Liang, Percy; Le, Quoc V.; Ma, Tengyu; Yu, Adams Wei
DoReMi: Optimizing Data Mixtures Speeds Up Language Model Pretraining
NeurIPS 2023

zhang2022spdcl: Zhang, Xulong; Wang, Jianzong; Cheng, Ning; Xiao, Jing
Improving Imbalanced Text Classification with Dynamic Curriculum Learning
MSN 2022

zhao2015: Zhao, Qian; Meng, Deyu; Jiang, Lu; Xie, Qi; Xu, Zongben; Hauptmann, Alexander G.
Self-Paced Learning for Matrix Factorization
AAAI 2015

zhou2018mcl: Zhou, Tianyi; Bilmes, Jeff
Minimax Curriculum Learning: Machine Teaching with Desirable Difficulties and Scheduled Diversity
ICLR 2018

zhou2020dihcl: Zhou, Tianyi; Wang, Shengjie; Bilmes, Jeff A.
Curriculum Learning by Dynamic Instance Hardness
NeurIPS 2020

zhou2021docl: Zhou, Tianyi; Wang, Shengjie; Bilmes, Jeff A.
Curriculum Learning by Optimizing Learning Dynamics
AISTATS 2021
"""


def _read(bibliography: str) -> dict[str, Reference]:
    references: dict[str, Reference] = {}
    for entry in bibliography.strip().split("\n\n"):
        head, title, where = entry.split("\n")
        key, authors = head.split(": ")
        venue, _, pages = where.partition(", ")
        short, year = venue.split(" ")
        kind, name = _VENUES[short]
        assert key not in references, key
        references[key] = Reference(
            key=key,
            authors=tuple(authors.split("; ")),
            title=title,
            venue=name,
            year=int(year),
            kind=kind,
            pages=pages,
        )
    return references


REFERENCES: dict[str, Reference] = _read(_BIBLIOGRAPHY)
"""Every paper that the library rests on, by key."""
