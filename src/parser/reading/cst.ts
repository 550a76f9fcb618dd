// The grammar: the chevrotain parser, and nothing of what the words mean. It takes arranged tokens and always gives a
// tree, with holes where something was wrong; `build-ast.ts` and `build-expression.ts` expect them. `grammar/lora.ebnf` is printed from it.

import { type CstNode as ChevrotainNode, CstParser, type IRecognitionException } from 'chevrotain';
import type { Token } from './tokens.ts';
import * as t from './tokens.ts';

export type CstNode = ChevrotainNode;
export type { Token };

/** A place where the grammar did not fit: the token that was in the way, the one before it, and the rule. */
export interface Misfit {
  /** `undefined`: the end of the text. */
  readonly token: Token | undefined;
  readonly previous: Token | undefined;
  readonly rule: string;
}

export interface ParseResult {
  readonly tree: CstNode | undefined;
  readonly misfits: readonly Misfit[];
}

export function parseProgram(tokens: Token[]): ParseResult {
  return parse(tokens, (parser) => parser.program());
}

/** What stands between `${` and `}`. */
export function parseExpression(tokens: Token[]): ParseResult {
  return parse(tokens, (parser) => parser.interpolation());
}

export class LoraParser extends CstParser {
  /** How many pieces were skipped since this was last set to 0: where it stays so, nobody need look for them. */
  skipped = 0;

  constructor(options: { readonly validate: boolean }) {
    super(t.allTokens, {
      recoveryEnabled: true,
      maxLookahead: 1,
      nodeLocationTracking: 'none',
      skipValidations: !options.validate,
    });
    this.performSelfAnalysis();
  }

  /** Brackets are balanced and words have roles before parsing, so a token that is invented here would only mislead. */
  protected override canTokenTypeBeInsertedInRecovery(): boolean {
    return false;
  }

  readonly program = this.RULE('program', () => {
    this.MANY(() => {
      this.OR([{ ALT: () => this.SUBRULE(this.statement) }, { ALT: () => this.SUBRULE(this.stray) }]);
    });
  });

  private readonly statement = this.RULE('statement', () => {
    this.OR([
      { ALT: () => this.SUBRULE(this.block) },
      { ALT: () => this.SUBRULE(this.letStatement) },
      { ALT: () => this.SUBRULE(this.paramStatement) },
      { ALT: () => this.SUBRULE(this.importStatement) },
      // Outside of every block: understood in order to be complained about.
      { ALT: () => this.SUBRULE(this.attribute) },
    ]);
  });

  private readonly block = this.RULE('block', () => {
    this.CONSUME(t.BlockWord);
    this.OPTION1(() => {
      this.OR([{ ALT: () => this.CONSUME1(t.Word) }, { ALT: () => this.CONSUME(t.Text) }]);
    });
    this.OPTION2(() => {
      this.CONSUME(t.Extends);
      this.CONSUME2(t.Word, { LABEL: 'Other' });
    });
    this.SUBRULE(this.record);
  });

  private readonly letStatement = this.RULE('letStatement', () => {
    this.CONSUME(t.Let);
    this.CONSUME(t.Word);
    this.OPTION1(() => this.CONSUME(t.Equals));
    this.OPTION2(() => this.SUBRULE(this.expression));
  });

  private readonly paramStatement = this.RULE('paramStatement', () => {
    this.CONSUME(t.Param);
    this.CONSUME(t.Word);
    this.OPTION1(() => {
      this.CONSUME(t.Equals);
      this.OPTION2(() => this.SUBRULE(this.expression));
    });
  });

  private readonly importStatement = this.RULE('importStatement', () => {
    this.CONSUME(t.Import);
    this.CONSUME(t.Text);
    this.OPTION(() => {
      this.CONSUME1(t.Word, { LABEL: 'As' });
      this.CONSUME2(t.Word);
    });
  });

  private readonly record = this.RULE('record', () => {
    this.CONSUME(t.OpenBrace);
    this.MANY(() => {
      this.OR([
        {
          ALT: () => {
            this.SUBRULE(this.attribute);
            this.OPTION(() => this.CONSUME(t.Comma));
          },
        },
        { ALT: () => this.SUBRULE(this.stray) },
      ]);
    });
    this.CONSUME(t.CloseBrace);
  });

  private readonly attribute = this.RULE('attribute', () => {
    this.OR([
      {
        ALT: () => {
          this.CONSUME(t.Key);
          this.CONSUME(t.Equals);
          this.OPTION1(() => this.SUBRULE1(this.expression));
        },
      },
      // Without `=`: understood in order to be complained about.
      {
        ALT: () => {
          this.CONSUME(t.Word);
          this.OPTION2(() => this.SUBRULE2(this.expression));
        },
      },
    ]);
  });

  readonly interpolation = this.RULE('interpolation', () => {
    this.OPTION(() => this.SUBRULE(this.expression));
  });

  private readonly expression = this.RULE('expression', () => {
    this.SUBRULE1(this.product);
    this.MANY(() => {
      this.CONSUME(t.Sign);
      this.SUBRULE2(this.product);
    });
  });

  private readonly product = this.RULE('product', () => {
    this.SUBRULE1(this.signed);
    this.MANY(() => {
      this.CONSUME(t.Factor);
      this.SUBRULE2(this.signed);
    });
  });

  private readonly signed = this.RULE('signed', () => {
    this.MANY(() => this.CONSUME(t.Sign));
    this.SUBRULE(this.power);
  });

  /** A chain and not a recursion, so that a long one cannot use up the stack. It groups from the right. */
  private readonly power = this.RULE('power', () => {
    this.SUBRULE(this.primary);
    this.MANY(() => {
      this.CONSUME(t.Power);
      this.SUBRULE(this.exponent);
    });
  });

  private readonly exponent = this.RULE('exponent', () => {
    this.MANY(() => this.CONSUME(t.Sign));
    this.SUBRULE(this.primary);
  });

  private readonly primary = this.RULE('primary', () => {
    this.OR([
      { ALT: () => this.CONSUME(t.Numeral) },
      { ALT: () => this.CONSUME(t.Text) },
      { ALT: () => this.SUBRULE(this.named) },
      { ALT: () => this.SUBRULE(this.list) },
      { ALT: () => this.SUBRULE(this.record) },
      { ALT: () => this.SUBRULE(this.group) },
    ]);
  });

  private readonly named = this.RULE('named', () => {
    this.CONSUME1(t.Word);
    this.OPTION1(() => {
      this.OR1([
        { ALT: () => this.SUBRULE(this.record) },
        {
          ALT: () => {
            this.SUBRULE(this.list);
            this.OPTION2(() => this.SUBRULE1(this.choice));
          },
        },
        { ALT: () => this.SUBRULE(this.argumentList) },
        { ALT: () => this.SUBRULE2(this.choice) },
      ]);
    });
  });

  /** What stands behind "@". */
  private readonly choice = this.RULE('choice', () => {
    this.CONSUME(t.At);
    this.OR([
      { ALT: () => this.CONSUME(t.Numeral) },
      {
        ALT: () => {
          this.CONSUME(t.Word);
          this.OPTION(() => this.SUBRULE(this.argumentList));
        },
      },
    ]);
  });

  private readonly list = this.RULE('list', () => {
    this.CONSUME(t.OpenBracket);
    this.MANY(() => {
      this.OR([
        {
          ALT: () => {
            this.OR2([{ ALT: () => this.SUBRULE(this.expression) }, { ALT: () => this.SUBRULE(this.pick) }]);
            this.OPTION(() => this.CONSUME(t.Comma));
          },
        },
        { ALT: () => this.SUBRULE(this.strayInList) },
      ]);
    });
    this.CONSUME(t.CloseBracket);
  });

  /** A value of a sweep, where a variant is named: `small[thr = -3.55]`. */
  private readonly pick = this.RULE('pick', () => {
    this.CONSUME(t.Key);
    this.CONSUME(t.Equals);
    this.OPTION(() => this.SUBRULE(this.expression));
  });

  private readonly argumentList = this.RULE('argumentList', () => {
    this.CONSUME(t.OpenParen);
    this.MANY(() => {
      this.OR([
        {
          ALT: () => {
            this.SUBRULE(this.expression);
            this.OPTION(() => this.CONSUME(t.Comma));
          },
        },
        { ALT: () => this.SUBRULE(this.strayKey) },
        { ALT: () => this.SUBRULE(this.strayInList) },
      ]);
    });
    this.CONSUME(t.CloseParen);
  });

  // What cannot stand where it stands is skipped by the grammar itself, piece by piece. Chevrotain's own way of skipping
  // in a repetition recurses once for each piece, which a file with thousands of them turns into a stack overflow.

  private readonly stray = this.RULE('stray', () => {
    this.ACTION(() => {
      this.skipped += 1;
    });
    this.OR([
      { ALT: () => this.CONSUME(t.Numeral) },
      { ALT: () => this.CONSUME(t.Text) },
      { ALT: () => this.CONSUME(t.Equals) },
      { ALT: () => this.CONSUME(t.Sign) },
      { ALT: () => this.CONSUME(t.Factor) },
      { ALT: () => this.CONSUME(t.Power) },
      { ALT: () => this.CONSUME(t.At) },
      { ALT: () => this.CONSUME(t.Comma) },
      { ALT: () => this.SUBRULE(this.list) },
      { ALT: () => this.SUBRULE(this.record) },
      { ALT: () => this.SUBRULE(this.argumentList) },
    ]);
  });

  private readonly strayInList = this.RULE('strayInList', () => {
    this.ACTION(() => {
      this.skipped += 1;
    });
    this.OR([
      { ALT: () => this.CONSUME(t.Equals) },
      { ALT: () => this.CONSUME(t.Factor) },
      { ALT: () => this.CONSUME(t.Power) },
      { ALT: () => this.CONSUME(t.At) },
      { ALT: () => this.CONSUME(t.Comma) },
    ]);
  });

  private readonly strayKey = this.RULE('strayKey', () => this.CONSUME(t.Key));

  private readonly group = this.RULE('group', () => {
    this.CONSUME(t.OpenParen);
    this.SUBRULE(this.expression);
    this.CONSUME(t.CloseParen);
  });
}

/** A rule, or a part of one, as data. */
export interface GrammarNode {
  readonly type: string;
  readonly name?: string;
  readonly definition?: readonly GrammarNode[];
}

/** The rules as data, for printing the grammar. */
export function serializedGrammar(): readonly GrammarNode[] {
  return new LoraParser({ validate: false }).getSerializedGastProductions();
}

let shared: LoraParser | undefined;

function parse(tokens: Token[], rule: (parser: LoraParser) => CstNode | undefined): ParseResult {
  shared ??= new LoraParser({ validate: false });
  shared.input = tokens;
  shared.skipped = 0;
  const tree = rule(shared);
  const strays = tree === undefined || shared.skipped === 0 ? [] : straysIn(tree);
  return { tree, misfits: [...shared.errors.map(misfitOf), ...strays] };
}

/** The first token of each piece that the grammar skipped. */
function straysIn(node: CstNode): Misfit[] {
  return Object.values(node.children)
    .flat()
    .flatMap((child) => {
      if ('image' in child) return [];
      if (!child.name.startsWith('stray')) return straysIn(child);
      const token = firstToken(child);
      return token === undefined ? [] : [{ token, previous: undefined, rule: node.name }];
    });
}

function firstToken(node: CstNode): Token | undefined {
  const tokens = Object.values(node.children)
    .flat()
    .flatMap((child) => ('image' in child ? [child] : (firstToken(child) ?? [])));
  return tokens.toSorted((a, b) => a.startOffset - b.startOffset)[0];
}

function misfitOf(error: IRecognitionException): Misfit {
  const previous = 'previousToken' in error ? (error.previousToken as Token | undefined) : undefined;
  return {
    token: isWritten(error.token) ? error.token : undefined,
    previous: isWritten(previous) ? previous : undefined,
    rule: error.context.ruleStack.at(-1) ?? 'program',
  };
}

/** Neither the end of the text nor a token that chevrotain made up. */
function isWritten(token: Token | undefined): token is Token {
  return token !== undefined && token.startOffset >= 0 && !Number.isNaN(token.startOffset);
}
