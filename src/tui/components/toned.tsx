// Text with a tone. With colour off (NO_COLOR) it is text alone: no colour, no dimming.

import { Text, type TextProps } from 'ink';
import { createContext, type ReactNode, useContext } from 'react';
import type { Tone } from '../lines.ts';

export const ColorContext = createContext(true);

const props = {
  plain: {},
  quiet: { dimColor: true },
  good: { color: 'green' },
  busy: { color: 'cyan' },
  warning: { color: 'yellow' },
  bad: { color: 'red' },
} as const satisfies Record<Tone, TextProps>;

export interface TonedProps {
  readonly tone?: Tone;
  readonly wrap?: TextProps['wrap'];
  readonly children?: ReactNode;
}

export function Toned({ tone = 'plain', wrap = 'truncate-end', children }: TonedProps) {
  const color = useContext(ColorContext);
  return (
    <Text wrap={wrap} {...(color ? props[tone] : {})}>
      {children}
    </Text>
  );
}
